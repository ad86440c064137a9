"""
The persons in the store, computed instead of remembered.

A person's number determines identifier, segments of each partner and opt-out, so processes share
only `ids` and `segments_per_id`.

    number % 10    known by                     reaches the store by
    0-3            SHA-256 of the e-mail        a partner's file
    4-5            MD5                          a partner's file
    6              SHA-1                        a partner's file
    7              DUID                         the store's writer: files carry e-mail hashes only
    8              ifa                          likewise
    9              eid                          likewise

    number % 211
    7              RESTRICT, recorded after the files were loaded: held, never shown
    107            ERASURE, recorded before: every file's row is refused

Numbers from `ids` upwards are strangers, unknown to the store. Persons come in cohorts that share
their segments; a file holds a cohort's persons of a kind of hash.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b, md5, sha1, sha256
from typing import NamedTuple
from uuid import UUID

from segments.model.identity import (
    Id,
    IdentifierKind,
    id_of_duid,
    id_of_eid,
    id_of_email_hash,
    id_of_ifa,
)

RESTRICTED_REMAINDER = 7
ERASED_REMAINDER = 107
OPT_OUT_MODULUS = 211

_KINDS_MODULUS = 10
_HASHES = ("sha2", "sha2", "sha2", "sha2", "md5", "md5", "sha1")
_MOST_COHORTS = 96
_PERSONS_PER_COHORT = 5_000

# Neighbouring cohorts of a partner overlap in their segments.
_SEGMENT_STRIDE = 3
_FIRST_SEGMENT = 100
_RETIRED_MODULUS = 23
_RETIRED_REMAINDER = 14  # 106, 129, ...: the first cohorts keep all of theirs

_ULID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_DUID_DOMAIN = sha1(b"publisher.example", usedforsecurity=False).hexdigest()[:12]


class Partner(NamedTuple):
    """A partner of the load test."""

    public_id: str
    name: str
    segtax: int | None
    sub_id: str | None  # the sub account named in its files; the partner is an agency


PARTNERS = (
    Partner("9001", "Loadtest Outdoor", None, None),
    Partner("9002", "loadtest-data.example", 600, None),
    Partner("9003", "Loadtest Agency & Söhne", None, "9003-1"),
)

SEES_ALL = "loadtest-dsp"
"""The recipient to which every partner is granted."""

RECIPIENT_TO_PARTNERS: Mapping[str, frozenset[str]] = {
    SEES_ALL: frozenset(partner.public_id for partner in PARTNERS),
    "loadtest-dsp-a": frozenset({"9001", "9002"}),
    "loadtest-dsp-b": frozenset({"9003"}),
}


class Share(NamedTuple):
    """A partner's segment ids of a cohort."""

    partner: Partner
    segment_ids: tuple[str, ...]


class Slice(NamedTuple):
    """The persons of a file: a cohort, a kind of hash (`segments.model.identity`'s names)."""

    cohort: int
    hash: str
    numbers: range
    every: tuple[int, ...]  # last digits of the persons among them


class Eid(NamedTuple):
    """An identifier under an identity source."""

    source: str
    uid: str


class Population:
    """
    The persons of a load test.

    Args:
        ids: Persons in the store, with an identifier each.
        segments_per_id: Segments of each person.
    """

    def __init__(self, ids: int, segments_per_id: int = 5) -> None:
        self.ids = ids
        self.segments_per_id = segments_per_id
        self.cohorts = min(max(ids // _PERSONS_PER_COHORT, len(PARTNERS) * 2), _MOST_COHORTS)

    def kind_of(self, number: int) -> IdentifierKind:
        """Return the kind of an identifier."""
        digit = number % _KINDS_MODULUS
        if digit < len(_HASHES):
            return IdentifierKind.EMAIL
        return (IdentifierKind.DUID, IdentifierKind.IFA, IdentifierKind.EID)[digit - len(_HASHES)]

    def hash_of(self, number: int) -> str:
        """Return the kind of hash of a person of kind EMAIL."""
        return _HASHES[number % _KINDS_MODULUS]

    def email_hash(self, number: int) -> str:
        """Return a person's hash; see `email_hash`."""
        return email_hash(number, self.hash_of(number))

    def duid(self, number: int) -> str:
        """Return a person's first-party cookie: `<12 hex>--<lower-case ULID>`."""
        value = int.from_bytes(_digest("duid", number))
        return _DUID_DOMAIN + "--" + "".join(_ULID_ALPHABET[value >> 5 * i & 31] for i in range(26))

    def ifa(self, number: int) -> str:
        """Return a person's device id, in lower case."""
        return str(UUID(bytes=_digest("ifa", number), version=4))

    def eid(self, number: int) -> Eid:
        """Return the source and identifier of a person of kind EID."""
        source = "liveintent.com" if number // _KINDS_MODULUS % 2 else "pubcid.org"
        return Eid(source, "li-" + _digest("eid", number).hex()[:22])

    def id_of(self, number: int) -> Id:
        """Return the 16-byte id of a person's identifier."""
        match self.kind_of(number):
            case IdentifierKind.DUID:
                return id_of_duid(self.duid(number))
            case IdentifierKind.IFA:
                return id_of_ifa(self.ifa(number))
            case IdentifierKind.EID:
                return id_of_eid(*self.eid(number))
            case _:
                return id_of_email_hash(self.email_hash(number))

    def is_known(self, number: int) -> bool:
        """Tell whether a number is a person in the store."""
        return number < self.ids

    def has_opted_out(self, number: int) -> bool:
        """Tell whether a person has opted out."""
        remainder = number % OPT_OUT_MODULUS
        return self.is_known(number) and remainder in (RESTRICTED_REMAINDER, ERASED_REMAINDER)

    def opted_out(self, remainder: int) -> range:
        """Return the persons with an opt-out of this kind."""
        return range(remainder, self.ids, OPT_OUT_MODULUS)

    def cohort_of(self, number: int) -> int:
        """Return the cohort of a person."""
        return number // _KINDS_MODULUS % self.cohorts

    def shares(self, cohort: int) -> tuple[Share, ...]:
        """Return a cohort's shares: of a partner; every fourth, of two."""
        mine = cohort % len(PARTNERS)
        segment_ids = tuple(
            str(_FIRST_SEGMENT + cohort // len(PARTNERS) * _SEGMENT_STRIDE + k)
            for k in range(self.segments_per_id)
        )
        if cohort % 4 != 3 or self.segments_per_id == 1:
            return (Share(PARTNERS[mine], segment_ids),)
        middle = (self.segments_per_id + 1) // 2
        other = PARTNERS[(mine + 1) % len(PARTNERS)]
        return (
            Share(PARTNERS[mine], segment_ids[:middle]),
            Share(other, segment_ids[middle:]),
        )

    def live_segments(self, numbers: Iterable[int], recipient: str) -> dict[str, frozenset[str]]:
        """
        Return the segments of a person that a recipient may see.

        Args:
            numbers: The identifiers; strangers add nothing.
            recipient: Its name.

        Returns:
            Partner id to segment ids; partners without any are left out.
        """
        granted = RECIPIENT_TO_PARTNERS[recipient]
        partner_to_ids: dict[str, set[str]] = {}
        for cohort in {self.cohort_of(n) for n in numbers if self.is_known(n)}:
            for partner, segment_ids in self.shares(cohort):
                if partner.public_id in granted:
                    live = [s for s in segment_ids if not is_retired(s)]
                    partner_to_ids.setdefault(partner.public_id, set()).update(live)
        return {p: frozenset(s) for p, s in partner_to_ids.items() if s}

    def slices(self) -> Iterator[Slice]:
        """Yield the files, cohort by cohort, for each kind of hash."""
        for cohort in range(self.cohorts):
            numbers = range(cohort * _KINDS_MODULUS, self.ids, self.cohorts * _KINDS_MODULUS)
            for hash_ in dict.fromkeys(_HASHES):
                every = tuple(digit for digit, h in enumerate(_HASHES) if h == hash_)
                yield Slice(cohort, hash_, numbers, every)

    def numbers_in(self, slice_: Slice) -> Iterator[int]:
        """Yield the persons of a file."""
        for tens in slice_.numbers:
            for digit in slice_.every:
                if tens + digit < self.ids:
                    yield tens + digit

    def not_in_files(self, cohort: int) -> Iterator[int]:
        """Yield a cohort's persons that no file carries."""
        for tens in range(cohort * _KINDS_MODULUS, self.ids, self.cohorts * _KINDS_MODULUS):
            for digit in range(len(_HASHES), _KINDS_MODULUS):
                if tens + digit < self.ids:
                    yield tens + digit


def email_hash(number: int, hash_: str) -> str:
    """Return a hash of a person's e-mail address, in lower-case hex."""
    address = b"person-%d@example.com" % number
    if hash_ == "sha2":
        return sha256(address).hexdigest()
    if hash_ == "sha1":
        return sha1(address, usedforsecurity=False).hexdigest()
    return md5(address, usedforsecurity=False).hexdigest()


def is_retired(segment_id: str) -> bool:
    """Tell whether a segment was deactivated after the load."""
    return int(segment_id) % _RETIRED_MODULUS == _RETIRED_REMAINDER


def _digest(kind: str, number: int) -> bytes:
    return blake2b(b"%d" % number, digest_size=16, person=kind.encode()).digest()
