"""
Bid requests as an exchange sends them, each with its expected answer.

A request is made from `(seed, index)` alone, so any process makes the same traffic, and a wrong
answer can be reproduced. The expectation follows from the planted identifiers, by docs/field.md and
`Population`, never from parsing the request: no mistake common to service and judge.

    part          mix
    inventory     60 % site, 40 % app
    placement     60 % OpenRTB 2.5 (in ext), 40 % 2.6
    size          1-6 KB, median about 2.4 KB
    persons       72 % in the store (Zipf), 18 % strangers, 10 % none
    identifiers   one, or two in a tenth; also foreign ids that are not looked up
    signals       14 % refuse: coppa, lmt, gpc, us_privacy, gdpr, gpp, too many ids
    caller        half a recipient of all partners, half one of two that see some
    JSON          compact, spaced or indented; numbers and escapes spelled oddly
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import msgspec

from loadtest import inventory
from loadtest.inventory import spelled
from loadtest.person import Signals, draw_signals, who_is
from loadtest.population import RECIPIENT_TO_PARTNERS, SEES_ALL, Population
from loadtest.zipf import Zipf
from rtb.outcome import Outcome, Reason
from segments.model.identity import IdentifierKind

SMALLEST_BYTES = 1_000
LARGEST_BYTES = 6_144
_MEDIAN_LOG2 = 11.2  # about 2.4 KB
_SPREAD_LOG2 = 0.55

_KNOWN = 0.72
_STRANGER = 0.90
_SECOND_ID = 0.10
_TOO_MANY_IDS = 0.004
_MORE_THAN_MAX_IDS = 12
_TRIES = 10_000

_CALLERS = (SEES_ALL, *RECIPIENT_TO_PARTNERS)
_TMAX = (None, 120, 250, 300, 500, spelled("1000"), spelled("3e2"))

_USER_KEY = b'"user":'
_ESCAPED_USER_KEY = b'"\\u0075se\\u0072":'


@dataclass(frozen=True, slots=True)
class BidRequest:
    """A generated request and the facts of its making."""

    index: int
    recipient: str
    body: bytes
    planted: tuple[int, ...]  # persons whose identifiers are where we look
    refusal: Reason  # the refusal of its own signals, if any
    is_stripped: bool  # carries `user.ext.hashes`, which must not leave
    # Segments of ours already in it, by partner id: not added again.
    present: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Return the request's path for the full-request answer."""
        return f"/openrtb2/enrich/{self.recipient}"


class Expectation(NamedTuple):
    """The expected answer: its outcome, and partner id to added segment ids."""

    outcome: Outcome
    reason: Reason = Reason.NONE
    segments: Mapping[str, frozenset[str]] = {}


class Traffic:
    """
    All the requests of a load test.

    Args:
        population: The persons in the store.
        seed: Another seed means other traffic of the same kind.
    """

    def __init__(self, population: Population, seed: int = 1) -> None:
        self.population = population
        self.seed = seed
        self._zipf = Zipf(population.ids)

    def request(self, index: int) -> BidRequest:
        """Return a request, by seed, index and population alone."""
        rng = Random(f"{self.seed}:{index}")
        numbers = self._persons(rng)
        signals = draw_signals(rng) if len(numbers) <= 2 else Signals()
        is_26 = rng.random() < 0.4
        is_app = rng.random() < 0.4 or any(
            self.population.kind_of(n) is IdentifierKind.IFA for n in numbers
        )
        who = who_is(rng, self.population, numbers, signals, is_26=is_26)

        draft: dict[str, object] = {"id": f"{self.seed:x}-{index:x}", "imp": inventory.imps(rng)}
        draft |= {"app": inventory.app(rng)} if is_app else {"site": inventory.site(rng)}
        draft["device"] = inventory.device(rng) | who.device
        if who.user:
            draft["user"] = who.user
        if tmax := rng.choice(_TMAX):
            draft["tmax"] = tmax
        draft |= {"at": 1, "cur": ["USD"]}
        draft |= signals.regs(is_26=is_26)
        source = {"schain": inventory.schain(rng)}
        draft["source"] = source if is_26 else {"ext": source}
        if rng.random() < 0.3:
            draft["ext"] = inventory.oddities(rng)

        refusal = signals.refusal if len(numbers) <= 2 else Reason.TOO_MANY_IDS
        return BidRequest(
            index,
            rng.choice(_CALLERS),
            _encoded(rng, draft, _size_bytes(rng)),
            tuple(n for n in numbers if self._stays(n, signals)),
            refusal,
            who.is_stripped,
            who.present,
        )

    def plain_hit(self, index: int, size_bytes: int) -> BidRequest:
        """
        Return a request about a person with a full set of live segments, for measuring.

        A plain OpenRTB 2.5 site request with the SHA-256 of an e-mail address under
        `liveintent.com`, from the recipient of all partners.

        Raises:
            ValueError: The population has no such person.
        """
        rng = Random(f"{self.seed}:hit:{index}")
        number = self.full_person(rng)
        body = plain_body(rng, index, [self.population.email_hash(number)], size_bytes)
        return BidRequest(index, SEES_ALL, body, (number,), Reason.NONE, is_stripped=False)

    def _persons(self, rng: Random) -> tuple[int, ...]:
        if rng.random() < _TOO_MANY_IDS:
            stranger = self.population.ids + rng.randrange(10**6)
            return tuple(n for n in range(stranger, stranger + 40) if self._is_email(n))[
                :_MORE_THAN_MAX_IDS
            ]
        dice = rng.random()
        rank = self._zipf.rank(rng)
        if dice < _KNOWN:
            first = rank
        elif dice < _STRANGER:
            first = self.population.ids + rank
        else:
            return ()
        if rng.random() >= _SECOND_ID:
            return (first,)
        second = self._zipf.rank(rng)
        kind_of = self.population.kind_of
        # A request has one device, so a single ifa.
        return (first,) if kind_of(first) is kind_of(second) else (first, second)

    def _stays(self, number: int, signals: Signals) -> bool:
        """Tell whether an identifier is looked up under these signals."""
        kind = self.population.kind_of(number)
        if kind is IdentifierKind.IFA:
            return signals.refusal is not Reason.LMT
        return kind is not IdentifierKind.DUID or signals.refusal is not Reason.COPPA

    def _is_email(self, number: int) -> bool:
        return self.population.kind_of(number) is IdentifierKind.EMAIL

    def full_person(self, rng: Random) -> int:
        """
        Draw a person of kind EMAIL, by SHA-256, with all segments live and of one partner.

        Raises:
            ValueError: The population has no such person.
        """
        wanted = self.population.segments_per_id
        for _ in range(_TRIES):
            number = rng.randrange(self.population.ids)
            if not self._is_email(number) or self.population.hash_of(number) != "sha2":
                continue
            shown = self.population.live_segments((number,), SEES_ALL)
            # A single `Data` object: the common case.
            is_full = len(shown) == 1 and sum(map(len, shown.values())) == wanted
            if is_full and not self.population.has_opted_out(number):
                return number
        raise ValueError(f"a population without persons of {wanted} live segments of one partner")


def plain_body(rng: Random, index: int, email_hashes: Sequence[str], size_bytes: int) -> bytes:
    """
    Return a plain request, for measuring.

    Args:
        rng: Decides irrelevant details.
        index: Becomes its id.
        email_hashes: SHA-256 each; one eid of `liveintent.com` has them all.
        size_bytes: Approximate: shorter by less than a blocked domain.
    """
    return filled_body(rng, plain_draft(rng, index, email_hashes), size_bytes)


def plain_draft(rng: Random, index: int, email_hashes: Sequence[str]) -> dict[str, Any]:
    """Return the same unfilled, to be changed; without ids: no eids."""
    uids = [{"id": email_hash, "atype": 3} for email_hash in email_hashes]
    eids = [{"source": "liveintent.com", "uids": uids}] if uids else []
    return {
        "id": f"{index:x}",
        "imp": [{"id": "1", "banner": {"w": 300, "h": 250}, "bidfloor": spelled("1.10")}],
        "site": inventory.site(rng) | {"name": "plain words"},
        "device": inventory.device(rng) | {"lmt": 0},
        "user": {
            "id": f"u-{index:x}",
            "data": [{"id": "77", "name": "other-dmp.example", "segment": [{"id": "1"}]}],
            "ext": {"eids": eids},
        },
        "at": 1,
        "regs": {"ext": {"us_privacy": "1YNN"}},
        "source": {"ext": {"schain": inventory.schain(rng)}},
    }


def filled_body(rng: Random, draft: dict[str, Any], size_bytes: int) -> bytes:
    """Encode a request, filled with blocked domains to about a size."""
    return msgspec.json.encode(_filled(rng, draft, size_bytes))


def expectation(request: BidRequest, population: Population) -> Expectation:
    """
    Return the expected answer to a request when the store holds this population.

    In the bid path's order: no identifier, signals, opt-outs, segments to show.
    """
    if not request.planted:
        return Expectation(Outcome.NO_IDENTITY)
    if request.refusal:
        return Expectation(Outcome.NO_CONSENT, request.refusal)
    if any(map(population.has_opted_out, request.planted)):
        return Expectation(Outcome.OPTED_OUT)
    live = population.live_segments(request.planted, request.recipient)
    missing = {p: ids - request.present.get(p, frozenset()) for p, ids in live.items()}
    segments = {p: ids for p, ids in missing.items() if ids}
    if not segments:
        return Expectation(Outcome.NO_MATCH, Reason.ALREADY_THERE if live else Reason.NONE)
    return Expectation(Outcome.ENRICHED, segments=segments)


def _size_bytes(rng: Random) -> int:
    drawn = int(2 ** rng.gauss(_MEDIAN_LOG2, _SPREAD_LOG2))
    return min(max(drawn, SMALLEST_BYTES + 100), LARGEST_BYTES - 100)


def _filled(rng: Random, draft: dict[str, object], size_bytes: int) -> dict[str, object]:
    missing = size_bytes - len(msgspec.json.encode(draft | {"badv": []}))
    return draft | {"badv": inventory.blocked_domains(rng, missing)}


def _encoded(rng: Random, draft: dict[str, object], size_bytes: int) -> bytes:
    keys = list(draft)
    style = rng.random()
    if style > 0.5:
        rng.shuffle(keys)
    draft = {key: draft[key] for key in keys}
    if style > 0.95:  # indented; the white space takes a third of the size
        compact = msgspec.json.encode(_filled(rng, draft, size_bytes * 2 // 3))
        body = msgspec.json.format(compact, indent=2)
    elif style > 0.7:  # spaced
        compact = msgspec.json.encode(_filled(rng, draft, size_bytes * 14 // 15))
        body = msgspec.json.format(compact, indent=0)
    else:
        body = msgspec.json.encode(_filled(rng, draft, size_bytes))
    if 0.5 < style < 0.51:
        body = body.replace(_USER_KEY, _ESCAPED_USER_KEY)
    return body + b"\n" if style > 0.65 else body
