"""
The columns that are read from a customer's file.

Case is ignored: warehouses write capitals. A file with two columns of a name is refused, because
either may hold the person's opt-out.
"""

from typing import NamedTuple

DELETE = "delete"

PROCESS_CONSENT = "process_consent"

CONTROLS = (DELETE, PROCESS_CONSENT)
"""Honoured at any position in a file."""


def column_key(name: str) -> str:
    """Return a column name for comparison."""
    return name.strip().lower()


class IdentityColumn(NamedTuple):
    """A column that identifies persons."""

    column: str
    namespace: str  # identityNs


class Columns(NamedTuple):
    """The columns that are read from a file."""

    identities: tuple[IdentityColumn, ...]
    controls: tuple[str, ...]  # declared ones; other `CONTROLS` count if present
