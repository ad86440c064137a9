"""
Refusals of the ledger, in words for the caller.

Messages stand alone, and name accounts and audiences as their owners do, never a person's id.
"""


class Refusal(Exception):
    """The request contradicts the ledger; the caller must change it."""


class NotFound(Refusal):
    """The name does not exist."""


class Duplicate(Refusal):
    """The name is already taken."""
