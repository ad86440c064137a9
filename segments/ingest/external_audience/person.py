"""
Turns rows of a customer's table into persons' ids, and tells which persons leave.

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
from itertools import compress
from operator import or_
from typing import Any, NamedTuple
from uuid import UUID

from segments.model.customer_columns import DELETE, PROCESS_CONSENT, IdentityColumn
from segments.model.identity import (
    Id,
    UnusableId,
    id_of_address,
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

_UNEQUAL_TYPES = frozenset({str, bool, type(None), type(ABSENT)})
"""Types of which no two values are equal that differ as text."""


class Persons(NamedTuple):
    """The content of some rows."""

    ids: list[list[Id | None]]
    """By column, then row; `None` where the value is no id."""
    leaves: list[bool]
    """By row; without a meaning in a row without an id."""
    with_id: int
    """The number of rows with an id."""


class PersonReader:
    """Reads rows, column by column: first the identities, then the controls."""

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

    def read(self, columns: Sequence[Sequence[Any]]) -> Persons:
        """
        Return the content of rows, given as columns of equal length. A value `None` is empty.
        """
        identities = zip(self._makers, columns, strict=False)
        ids = [self._ids(make, column) for make, column in identities]
        has_id = list(map(any, zip(*ids, strict=True)))
        leaves = [False] * len(has_id)
        if self._delete_at is not None:
            leaves = self._refusals(DELETE, columns[self._delete_at], has_id, plain=False)
        if self._consent_at is not None:
            column = columns[self._consent_at]
            refusals = self._refusals(PROCESS_CONSENT, column, has_id, plain=True)
            leaves = list(map(or_, leaves, refusals))
        return Persons(ids, leaves, sum(has_id))

    def _ids(self, make: Callable[[str], Id], column: Sequence[Any]) -> list[Id | None]:
        ids: list[Id | None] = []
        for value in column:
            text = value.strip() if type(value) is str else _text(value)
            id_ = None
            if text:
                try:
                    id_ = make(text)
                except UnusableId:
                    self.unusable += 1
            elif text is None:
                self.unusable += 1
            ids.append(id_)
        return ids

    def _refusals(
        self, control: str, column: Sequence[Any], has_id: Sequence[bool], *, plain: bool
    ) -> list[bool]:
        """Tell of each row whether its value is other than `plain` and not absent."""
        answers = _answers(column, absent=plain)
        if None in answers:
            unclear = sum(answer is None for answer in compress(answers, has_id))
            if unclear:
                self.unclear[control] += unclear
        return [answer is not plain for answer in answers]


def _answers(column: Sequence[Any], *, absent: bool) -> list[bool | None]:
    if _UNEQUAL_TYPES.issuperset(map(type, column)):
        # Few values, in many rows.
        value_to_answer = {value: _yes_or_no(value, absent=absent) for value in set(column)}
        return [value_to_answer[value] for value in column]
    return [_yes_or_no(value, absent=absent) for value in column]


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
    return id_of_address(text)


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


def _yes_or_no(value: Any, *, absent: bool) -> bool | None:
    """Return a control's answer, `absent` where there is none; `None` if it is unclear."""
    if value is ABSENT:
        return absent
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
