"""
One row of a customer's table to the ids of one person, and whether they leave.

    identityNs                       column holds                         id
    email                            an address, or its hash              e-mail hash
    Email_LC_SHA256                  the hash                             e-mail hash
    IDFA, GAID                       a device id                          ifa
    ECID, and whatever else          that namespace's id                  eid, its source the
                                                                          namespace in lower case

An address is trimmed, lower-cased and hashed (SHA-256) here; nothing of it goes
any further. Namespaces are compared without regard to case.

Who leaves: whoever's `delete` says so, and, where there is a `process_consent`
column, whoever's is not a plain yes. Not said is no yes: such a row can be sent
again with one, and what was shown can't be taken back.

Nothing else of a row is looked at.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from segments.model.customer_columns import DELETE, PROCESS_CONSENT, IdentityColumn
from segments.model.identity import (
    Id,
    UnusableId,
    id_of_eid,
    id_of_email_hash,
    id_of_ifa,
)

ABSENT = object()
"""The value of a column that was not declared, and that a JSON object does not have."""

IDENTITY_TYPES = frozenset({"string", "integer", "long", "number"})
"""Declared types of columns that can hold an id."""

_MAX_ADDRESS_CHARS = 320  # 64 before the @, 255 behind it: RFC 3696, erratum 1690
_YES = frozenset({"y", "yes", "true", "t", "1", "in"})
_NO = frozenset({"", "n", "no", "false", "f", "0"})


class Person(NamedTuple):
    """What a row says."""

    ids: list[Id]
    leaves: bool


class PersonReader:
    """Reads rows, each a sequence of the values of `columns`."""

    def __init__(self, identities: Sequence[IdentityColumn], controls: Sequence[str]) -> None:
        """
        Args:
            identities: At least one.
            controls: Those of `CONTROLS` that the file has.
        """
        self._makers = [_maker(identity.namespace) for identity in identities]
        at = len(identities)
        self._delete_at = at + controls.index(DELETE) if DELETE in controls else None
        self._consent_at = (
            at + controls.index(PROCESS_CONSENT) if PROCESS_CONSENT in controls else None
        )

    def read(self, values: Sequence[Any]) -> Person | None:
        """
        Return what a row says; `None` if that is nothing.

        Args:
            values: Of the identities, then of the controls. `None`: nothing is said.
        """
        ids = []
        for make, value in zip(self._makers, values, strict=False):
            text = _text(value)
            if text:
                try:
                    ids.append(make(text))
                except UnusableId:
                    continue
        if not ids:
            return None
        leaves = False
        if self._delete_at is not None:
            said = _said(values[self._delete_at])
            if said is None:
                return None
            leaves = said
        if self._consent_at is not None:
            consent = values[self._consent_at]
            leaves |= consent is not ABSENT and _said(consent) is not True
        return Person(ids, leaves)


def _maker(namespace: str) -> Callable[[str], Id]:
    match namespace.lower():
        case "email":
            return _id_of_email
        case "email_lc_sha256":
            return id_of_email_hash
        case "idfa" | "gaid":
            return id_of_ifa
        case source:
            return lambda text: id_of_eid(source, text)


def _id_of_email(text: str) -> Id:
    if "@" not in text:
        return id_of_email_hash(text)
    address = text.lower()
    if len(address) > _MAX_ADDRESS_CHARS:
        raise UnusableId(f"e-mail address of {len(address)} characters")
    try:
        raw = address.encode()
    except UnicodeEncodeError:
        raw = b""
    if not raw:
        # Out here: the codec's exception quotes the text and would come along as context.
        raise UnusableId(f"e-mail address of {len(address)} characters that is not Unicode text")
    return id_of_email_hash(sha256(raw).hexdigest())


def _text(value: Any) -> str:
    """Return an id as text; nothing for what can be none, as a number that was rounded."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return ""


def _said(value: Any) -> bool | None:
    """Return what a control column says; `None` if that can't be told."""
    if value is None or value is ABSENT:
        return False
    if isinstance(value, bool | int | float):
        return bool(value)
    if not isinstance(value, str):
        return None
    word = value.strip().lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    try:
        return float(word) != 0
    except ValueError:
        return None
