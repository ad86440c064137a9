"""
What the ledger refuses, in words for whoever asked.

Each message stands alone on one line of a terminal or in a door's answer, and
names accounts and audiences as their owners do, never a person's id.
"""


class Refusal(Exception):
    """What was asked does not fit what the ledger holds; whoever asked must change it."""


class NotFound(Refusal):
    """There is nothing by that name."""


class Duplicate(Refusal):
    """There is one by that name already."""
