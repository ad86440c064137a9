"""
Refusals of the ledger, in words for the caller.

Each message stands alone on a line of a terminal or in a door's answer, and names accounts and
audiences as their owners do, never a person's id.
"""


class Refusal(Exception):
    """The request contradicts the ledger; the caller must change the request."""


class NotFound(Refusal):
    """The name does not exist."""


class Duplicate(Refusal):
    """The name is already taken."""
