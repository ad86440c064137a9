"""
The columns that are read from a customer's file.

Warehouses write column names in capitals, people in any way, so names are compared without regard
to case, in declarations and in files. A file with two columns of the same name in this sense is
refused, because either may hold the person's opt-out.
"""

from typing import NamedTuple

DELETE = "delete"

PROCESS_CONSENT = "process_consent"

CONTROLS = (DELETE, PROCESS_CONSENT)
"""Columns with a meaning of their own: honoured at any position in a file."""


def column_key(name: str) -> str:
    """Return the form in which column names are compared."""
    return name.strip().lower()


class IdentityColumn(NamedTuple):
    """A column that identifies persons."""

    column: str
    namespace: str  # identityNs


class Columns(NamedTuple):
    """The columns that are read from a file."""

    identities: tuple[IdentityColumn, ...]
    controls: tuple[str, ...]  # declared ones of `CONTROLS`; the others count if present
