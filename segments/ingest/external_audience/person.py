"""
Turns a row of a customer's table into a person's ids, and tells whether the person leaves.

    identityNs                       column holds                         id
    email                            an address, or its hash              e-mail hash
    Email_LC_SHA256                  the hash                             e-mail hash
    IDFA, GAID                       a device id                          ifa
    ECID, and any other              that namespace's id                  eid, its source the
                                                                          namespace in lower case

An address is trimmed, lower-cased and hashed (SHA-256) here, and passed on nowhere. Namespaces are
compared without case.

A row removes its person unless its `delete` is a plain no and its `process_consent`, if the row
has that column, is a plain yes. An unclear value may mean that the person left: a row can be sent
again, but a shown segment can't be taken back. Unclear values are counted.

    plain no     false, 0, no, n, f, null, empty
    plain yes    true, 1, yes, y, t, in

Values are text, or typed as in JSON and Parquet, and are read as that text: a decimal as its
digits, bytes as UTF-8 (a raw digest as its hex digits), a UUID and a time in their usual form.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, time
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from segments.model.customer_columns import DELETE, PROCESS_CONSENT, IdentityColumn
from segments.model.identity import (
    Id,
    UnusableId,
    address_bytes,
    id_of_eid,
    id_of_email_hash,
    id_of_ifa,
)

ABSENT = object()
"""The value of an optional column that a JSON object lacks."""

IDENTITY_TYPES = frozenset({"string", "integer", "long", "number"})
"""Declared types of columns that can hold an id."""

_YES = frozenset({"y", "yes", "true", "t", "1", "in"})
_NO = frozenset({"", "n", "no", "false", "f", "0", "null"})
_MAX_EXACT = 2**53
"""Above this, a float may differ from the written number."""


class Person(NamedTuple):
    """The content of a row."""

    ids: list[Id]
    leaves: bool


class PersonReader:
    """Reads rows: sequences of values, first of the identities, then of the controls."""

    def __init__(self, identities: Sequence[IdentityColumn], controls: Sequence[str]) -> None:
        """`controls` are those of `CONTROLS` that the file has."""
        self.unusable = 0
        """Identity values so far that are no id, even beside usable ids."""
        self.unclear = Counter[str]()
        """Each control's values so far that are no plain yes or no."""
        self._makers = [_maker(identity.namespace) for identity in identities]
        at = len(identities)
        self._delete_at = at + controls.index(DELETE) if DELETE in controls else None
        self._consent_at = (
            at + controls.index(PROCESS_CONSENT) if PROCESS_CONSENT in controls else None
        )

    def read(self, values: Sequence[Any]) -> Person | None:
        """
        Return the content of a row; `None` if it has no usable id. A value `None` is empty.
        """
        ids = []
        for make, value in zip(self._makers, values, strict=False):
            text = _text(value)
            if text is None:
                self.unusable += 1
            elif text:
                try:
                    ids.append(make(text))
                except UnusableId:
                    self.unusable += 1
        if not ids:
            return None
        leaves = False
        if self._delete_at is not None:
            leaves = self._said(DELETE, values[self._delete_at]) is not False
        if self._consent_at is not None:
            consent = values[self._consent_at]
            if consent is not ABSENT:
                leaves |= self._said(PROCESS_CONSENT, consent) is not True
        return Person(ids, leaves)

    def _said(self, control: str, value: Any) -> bool | None:
        said = _yes_or_no(value)
        if said is None:
            self.unclear[control] += 1
        return said


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
    return id_of_email_hash(sha256(address_bytes(text)).hexdigest())


def _text(value: Any) -> str | None:
    """Return an id's text; empty for an empty value; `None` if the value can't be an id."""
    match value:
        case None:
            return ""
        case str():
            return value.strip()
        case bool():
            return None
        case int() | UUID():
            return str(value)
        case float():
            # A column of whole numbers with empty cells often becomes floats.
            return str(int(value)) if value.is_integer() and abs(value) < _MAX_EXACT else None
        case Decimal():
            return _digits(value)
        case bytes():
            try:
                return value.decode().strip()
            except UnicodeDecodeError:
                return value.hex()
        case date() | time():  # a `datetime` is a `date`
            return value.isoformat()
        case _:
            return None


def _digits(number: Decimal) -> str | None:
    if not number.is_finite():
        return None
    whole = number.to_integral_value()
    return f"{whole if number == whole else number.normalize():f}"


def _yes_or_no(value: Any) -> bool | None:
    if value is ABSENT:
        return False
    if isinstance(value, bool):
        return value
    word = str(value) if isinstance(value, float) else _text(value)
    if word is None:
        return None
    word = word.lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    try:
        number = float(word)
    except ValueError:
        return None
    return None if number not in (0, 1) else bool(number)
