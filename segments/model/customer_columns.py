"""
Which columns of a customer's file are read.

Warehouses write names in capitals, people as they like: a column is the same in any
case, in what is declared and in what a file has. A file in which two columns can't be
told apart so is refused, for one of them may hold the person's no.
"""

from typing import NamedTuple

DELETE = "delete"

PROCESS_CONSENT = "process_consent"

CONTROLS = (DELETE, PROCESS_CONSENT)
"""Columns with a meaning of their own: honoured wherever they stand in a file."""


def column_key(name: str) -> str:
    """Return what two names of one column have in common."""
    return name.strip().lower()


class IdentityColumn(NamedTuple):
    """A column that identifies persons."""

    column: str
    namespace: str  # identityNs


class Columns(NamedTuple):
    """Which columns of a file are read."""

    identities: tuple[IdentityColumn, ...]
    controls: tuple[str, ...]  # of `CONTROLS`, those declared; the others count if they are there
