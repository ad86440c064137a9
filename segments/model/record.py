"""
The record of an id in the store: opt-outs and memberships, packed into bytes.

    byte 0         high nibble: layout version (1); bit 0: opt-outs follow
    [opt-outs]     varint count, then count x { byte action, varint account id },
                   by account id, then action; account 0 is everyone
    memberships    to the end: { varint audience id, uint16 LE expiry day }, by audience id

Opt-outs live in the record, so a lookup answers "which segments?" and "may we?" atomically.

The packed form is canonical: equal records are equal bytes, so stores can be compared. `unpack`
refuses bytes that `pack` would not write: half a record may lack the opt-outs.

`merged` and `opted_out` specify the Lua scripts of `segments.store`; tests compare both.
"""

from collections.abc import Collection, Iterable
from enum import IntEnum
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple

from mypy_extensions import i64

from segments.model.day import S_PER_DAY

LAYOUT_VERSION: Final = 1
_HEADER: Final = LAYOUT_VERSION << 4
_HAS_OPT_OUTS: Final = 0x01

MAX_AUDIENCE_ID: Final = 2**32 - 1
MAX_ACCOUNT_ID: Final = 2**32 - 1
EVERYONE: Final = 0
"""The account id of a global opt-out."""

NO_EXPIRY: Final = 0
DAY_BITS: Final = 16
MAX_EXPIRY_DAY: Final = (1 << DAY_BITS) - 1

_EPOCH_AT_S: Final = 1_577_836_800  # 2020-01-01T00:00:00Z


class OptOutAction(IntEnum):
    """The request of a person. Both suppress; an ERASURE also deletes."""

    RESTRICT = 1
    ERASURE = 2


class OptOut(NamedTuple):
    """An opt-out of a person, and the account that submitted it."""

    account_id: int
    action: OptOutAction


class Membership(NamedTuple):
    """An id's membership in an audience, to the end of a day (0: for good)."""

    audience_id: int
    expiry_day: int = NO_EXPIRY


class Record(NamedTuple):
    """Everything held of an id; both parts sorted and without duplicates."""

    opt_outs: tuple[OptOut, ...] = ()
    memberships: tuple[Membership, ...] = ()


NOTHING = Record()


class Change(NamedTuple):
    """
    An audience to add ids to or remove them from.

    `forbidden_by`: the accounts whose opt-out keeps a person out of this audience, besides
    `EVERYONE`: owner, partner, and the publishers and media groups that reach them.
    """

    audience_id: int
    is_add: bool
    expiry_day: int = NO_EXPIRY
    forbidden_by: frozenset[int] = frozenset()


class Tally(NamedTuple):
    """The results of a merge, counted in (id, audience) pairs."""

    added: int = 0
    renewed: int = 0  # was a member, with another expiry
    removed: int = 0
    unchanged: int = 0  # already so
    refused: int = 0  # forbidden by an opt-out

    def __add__(self, other: "Tally") -> "Tally":  # type: ignore[override] # a sum, not a concatenation
        """Add up the results of two merges."""
        return Tally(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class CorruptRecord(ValueError):
    """Not a record: the operator must look at the store."""


class NewerRecord(CorruptRecord):
    """A later version's bytes, not to be touched."""


def day_of(at_s: float) -> int:
    """Return the expiry day of a unix time: days since 2020-01-01, UTC."""
    return int((at_s - _EPOCH_AT_S) // S_PER_DAY)


def began_at_s(day: int) -> int:
    """Return the unix time at which an expiry day begins."""
    return _EPOCH_AT_S + day * S_PER_DAY


def pack(record: Record) -> bytes:
    """
    Return a record's canonical bytes; it is sorted here.

    Raises:
        ValueError: An id or a day is out of range, or an audience occurs twice.
    """
    opt_outs = sorted(set(record.opt_outs))
    memberships = sorted(record.memberships)
    if len({m.audience_id for m in memberships}) != len(memberships):
        raise ValueError("one audience stands twice in a record")

    out = bytearray([_HEADER | (_HAS_OPT_OUTS if opt_outs else 0)])
    if opt_outs:
        out += _varint(len(opt_outs))
        for account_id, action in opt_outs:
            out.append(OptOutAction(action))
            out += _varint(account_id)
    for audience_id, expiry_day in memberships:
        if not 0 < audience_id <= MAX_AUDIENCE_ID or not 0 <= expiry_day <= MAX_EXPIRY_DAY:
            raise ValueError(f"audience {audience_id} with expiry day {expiry_day}: out of range")
        out += _varint(audience_id)
        out += expiry_day.to_bytes(2, "little")
    return bytes(out)


def has_no_opt_out(raw: bytes) -> bool:
    """Tell by its first byte whether a record has our layout and no opt-out."""
    return raw[:1] == bytes([_HEADER])


def unpack(raw: bytes) -> Record:
    """
    Parse a record: the inverse of `pack`.

    Raises:
        NewerRecord: A layout that this software does not know.
        CorruptRecord: Not from `pack`.
    """
    opt_outs, numbers = numbered(raw)
    pairs = [(number >> DAY_BITS, number & MAX_EXPIRY_DAY) for number in numbers]
    return Record(opt_outs, tuple(map(_as_membership, pairs)))


def numbered(raw: bytes) -> tuple[tuple[OptOut, ...], list[int]]:
    """
    Parse a record as `unpack` does, with each membership as one number, for counting.

    Returns:
        The opt-outs; and for each membership `audience_id << DAY_BITS | expiry_day`.

    Raises:
        CorruptRecord: As of `unpack`.
    """
    numbers: list[int] = []
    opt_outs, _ = _parts(raw, NO_EXPIRY, numbers)
    return opt_outs, numbers


def live(raw: bytes, today: int) -> tuple[tuple[OptOut, ...], list[int]]:
    """
    Parse a record for a bid: opt-outs, and audiences that hold `today` (as `day_of` counts).

    As strict as `unpack`, in a fifth of the time.

    Raises:
        CorruptRecord: As of `unpack`.
    """
    return _parts(raw, today, None)


def merged(record: Record, changes: Iterable[Change]) -> tuple[Record, tuple[Tally, ...]]:
    """
    Apply changes to a record, the later over the earlier; also return the tally of each.

    An opt-out in force refuses additions; removals always happen.
    """
    audience_to_expiry = dict(record.memberships)
    accounts_opted_out = {opt_out.account_id for opt_out in record.opt_outs}
    tallies = []
    for change in changes:
        held = audience_to_expiry.get(change.audience_id)
        if not change.is_add:
            if held is None:
                tallies.append(Tally(unchanged=1))
            else:
                del audience_to_expiry[change.audience_id]
                tallies.append(Tally(removed=1))
        elif EVERYONE in accounts_opted_out or accounts_opted_out & change.forbidden_by:
            tallies.append(Tally(refused=1))
        elif held == change.expiry_day:
            tallies.append(Tally(unchanged=1))
        else:
            audience_to_expiry[change.audience_id] = change.expiry_day
            tallies.append(Tally(added=1) if held is None else Tally(renewed=1))
    memberships = tuple(Membership(*item) for item in sorted(audience_to_expiry.items()))
    return Record(record.opt_outs, memberships), tuple(tallies)


def opted_out(
    record: Record, opt_out: OptOut, erased_audience_ids: Collection[int] | None = None
) -> Record:
    """
    Add an opt-out to a record, even an empty one.

    Args:
        record: The present record, or `NOTHING`.
        opt_out: Recorded for good; idempotent.
        erased_audience_ids: An ERASURE deletes memberships in these; `None`: in all. A RESTRICT
            deletes nothing: memberships stay, unseen (Article 18 GDPR).
    """
    memberships = record.memberships
    if opt_out.action is OptOutAction.ERASURE:
        memberships = tuple(
            m
            for m in memberships
            if erased_audience_ids is not None and m.audience_id not in erased_audience_ids
        )
    return Record(tuple(sorted({*record.opt_outs, opt_out})), memberships)


def swept(record: Record, today: int, deleted_audience_ids: Collection[int]) -> Record:
    """
    Drop memberships expired before `today` (as `day_of` counts), and those of deleted audiences.

    Opt-outs stay, and memberships hidden by them.
    """
    kept = tuple(
        m
        for m in record.memberships
        if (m.expiry_day == NO_EXPIRY or m.expiry_day >= today)
        and m.audience_id not in deleted_audience_ids
    )
    return Record(record.opt_outs, kept)


def without(record: Record, audience_id: int) -> Record:
    """Remove an id from an audience; all else stays."""
    kept = tuple(m for m in record.memberships if m.audience_id != audience_id)
    return Record(record.opt_outs, kept)


def _varint(number: int) -> bytes:
    """Encode a number in LEB128: seven bits a byte, lowest first; the high bit: more follow."""
    if not 0 <= number <= MAX_AUDIENCE_ID:
        raise ValueError(f"{number} does not fit the record's 32 bits")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(raw: bytes, at: i64) -> tuple[i64, i64]:
    number: i64 = 0
    shift: i64 = 0
    while True:
        byte = i64(raw[at])
        at += 1
        number |= (byte & 0x7F) << shift
        # Bounded, against endless noise.
        if byte < 0x80 or number > MAX_AUDIENCE_ID:
            break
        shift += 7
    # A last byte of zero: not the shortest form.
    if number > MAX_AUDIENCE_ID or (shift and not byte):
        raise CorruptRecord("a number in a record that is out of range or not in its shortest form")
    return number, at


def _opt_outs(raw: bytes, at: int) -> tuple[tuple[OptOut, ...], int]:
    count, at = _read_varint(raw, at)
    opt_outs = []
    for _ in range(count):
        action = raw[at]
        if action not in _ACTIONS:
            raise CorruptRecord("an opt-out in a record whose action is unknown")
        account_id, at = _read_varint(raw, at + 1)
        opt_outs.append(OptOut(account_id, _ACTIONS[action]))
    if not opt_outs or any(a >= b for a, b in pairwise(opt_outs)):
        raise CorruptRecord("opt-outs in a record that are missing or out of order")
    return tuple(opt_outs), at


def _parts(
    raw: bytes, today: int, numbers: list[int] | None
) -> tuple[tuple[OptOut, ...], list[int]]:
    """Split a record into opt-outs and the memberships of `_memberships`."""
    if not raw:
        raise CorruptRecord("a record of no bytes")
    head = raw[0]
    try:
        if head == _HEADER:
            return (), _memberships(raw, 1, today, numbers)
        if head == _HEADER | _HAS_OPT_OUTS:
            opt_outs, at = _opt_outs(raw, 1)
            return opt_outs, _memberships(raw, at, today, numbers)
    except IndexError:
        raise CorruptRecord(f"a record of {len(raw)} bytes that is cut short") from None
    version = head >> 4
    if version == LAYOUT_VERSION:
        raise CorruptRecord("a record with flags that no version has defined")
    kind = NewerRecord if version > LAYOUT_VERSION else CorruptRecord
    raise kind(f"a record of layout {version}, this software reads {LAYOUT_VERSION}")


def _memberships(raw: bytes, at: i64, today: i64, numbers: list[int] | None) -> list[int]:
    """Return the audience ids of a day; append the memberships as numbers if wanted."""
    # The bid path's inner loop: decoding ids of one and two bytes inline halves the time of a
    # record with ids above 127.
    size = i64(len(raw))
    previous: i64 = 0
    audience_ids: list[int] = []
    while at < size:
        audience_id = i64(raw[at])
        if audience_id < 0x80:
            at += 1
        elif 0 < raw[at + 1] < 0x80:
            audience_id += (i64(raw[at + 1]) << 7) - 0x80
            at += 2
        else:
            audience_id, at = _read_varint(raw, at)
        if audience_id <= previous:
            raise CorruptRecord("memberships in a record that are out of order")
        expiry_day = i64(raw[at]) | i64(raw[at + 1]) << 8
        if expiry_day >= today or expiry_day == NO_EXPIRY:
            audience_ids.append(audience_id)
            if numbers is not None:
                numbers.append(audience_id << DAY_BITS | expiry_day)
        previous = audience_id
        at += 2
    return audience_ids


_as_membership: Final = partial(tuple.__new__, Membership)
"""Half the time of `Membership`'s own constructor, a Python function."""

_ACTIONS: Final = {int(action): action for action in OptOutAction}
