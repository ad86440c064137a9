"""Which columns of a customer's file are read."""

from typing import NamedTuple

DELETE = "delete"

PROCESS_CONSENT = "process_consent"

CONTROLS = (DELETE, PROCESS_CONSENT)
"""Columns with a meaning of their own: honoured wherever they stand in a file."""


class IdentityColumn(NamedTuple):
    """A column that identifies persons."""

    column: str
    namespace: str  # identityNs


class Columns(NamedTuple):
    """Which columns of a file are read."""

    identities: tuple[IdentityColumn, ...]
    controls: tuple[str, ...]  # those that are declared; the others count too, if they are there
