"""
The shapes of bids that exchanges send, each a row of `python -m loadtest shapes`.

A shape is a request and a way to send it. Each request is made from its number, about a person of
`loadtest.population`, so its answer is judged as in any load test. To `Shape.odd` requests, whose
consent strings are any of the IAB's encoders, or damaged, ours and the peer's answers must be
equal.

    bench            2.8 KB, one id, five segments, `us_privacy`: the request of `bench`
    eu-app           an app under GDPR: TC string, `ifa`, `dnt`, foreign eids with `uids.ext`
    us-web           a site with the national section of GPP
    consent-empty    as bench, with an empty `consent`
    ten-ids          half of them in the store
    unknown-id       an id that is not in the store
    no-identity      no id at all
    imps-8k .. -64k  many imps, each with a deep `ext`
    gzip-in .. gzip  the bench's request compressed, its answer, and both
    tls              the bench's request over TLS
    mix              see `MIX`

TC strings are those of the IAB's encoder that permit us, of at least `LEAST_TC_CHARS`, as consent
dialogues of some hundred vendors write them.
"""

import gzip
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from loadtest import inventory
from loadtest.bench.against_peers import REQUEST_BYTES
from loadtest.driver import PLAIN, Way
from loadtest.population import SEES_ALL, email_hash
from loadtest.traffic import BidRequest, Traffic, filled_body, plain_draft
from rtb.consent.gpp import refusal_of_gpp
from rtb.consent.tcf import refusal_of_tc_string
from rtb.outcome import Reason
from rtb.settings import RtbSettings

LEAST_TC_CHARS = 200
NATIONAL = 7
"""The national section's id."""

MIX = {"eu-app": 0.414, "us-web": 0.306, "unknown-id": 0.18, "no-identity": 0.1}
"""
Shapes and their shares of the mix.

No public corpus has bid requests with consent strings. Of the pages in the HTTP Archive's crawl
that have a framework of the IAB, 43 % have only the TCF's, 28 % only the US one, 29 % both (Web
Almanac 2024, "Privacy": 4.2 % of all pages, 3.3 %, and 5.8 % with either); with half of the last
for each, 57.5 % of the identified bids are Europe's. Other shares are those of `loadtest.traffic`,
an assumption.
"""

_KNOWN_OF_TEN, _IDS = 5, 10
_VECTORS = Path(__file__).parents[2] / "tests" / "rtb" / "consent" / "vectors"
_DAMAGED = 0.25

Changes = dict[str, Any]


class Shape(NamedTuple):
    """A kind of request."""

    name: str
    make: Callable[[Traffic, Random, int], BidRequest]
    way: Way = PLAIN
    odd_consent: Callable[[Random], Changes] | None = None
    """Draws fields of a request with any consent string."""

    def request(self, traffic: Traffic, index: int) -> BidRequest:
        """Return a request that its own signals permit."""
        return self.make(traffic, Random(f"{traffic.seed}:{self.name}:{index}"), index)

    def odd(self, traffic: Traffic, index: int) -> BidRequest | None:
        """Return a request with any consent string; `None`: the shape has none."""
        if self.odd_consent is None:
            return None
        rng = Random(f"{traffic.seed}:{self.name}:odd:{index}")
        request = self.make(traffic, rng, index)
        bid = json.loads(request.body)
        for name, changes in self.odd_consent(rng).items():
            bid[name] = bid.get(name, {}) | changes
        body = json.dumps(bid, ensure_ascii=False).encode()
        return BidRequest(index, request.recipient, body, (), Reason.NONE, is_stripped=False)


def _hit(traffic: Traffic, _: Random, index: int) -> BidRequest:
    return traffic.plain_hit(index, REQUEST_BYTES)


def _of(
    known: Sequence[int],
    rng: Random,
    index: int,
    draft: dict[str, Any],
    size_bytes: int = REQUEST_BYTES,
) -> BidRequest:
    body = filled_body(rng, draft, size_bytes)
    return BidRequest(index, SEES_ALL, body, tuple(known), Reason.NONE, is_stripped=False)


def _plain(traffic: Traffic, rng: Random, index: int) -> tuple[int, dict[str, Any]]:
    number = traffic.full_person(rng)
    return number, plain_draft(rng, index, [traffic.population.email_hash(number)])


def _eu_app(traffic: Traffic, rng: Random, index: int) -> BidRequest:
    number, draft = _plain(traffic, rng, index)
    del draft["site"]
    ours = draft["user"].pop("ext")["eids"]
    token = f"{rng.getrandbits(128):032x}"
    foreign: list[Any] = [
        {"source": "id5-sync.com", "uids": [{"id": token, "atype": 1, "ext": {"linkType": 2}}]},
        {"source": "adserver.org", "uids": [{"id": token, "ext": {"rtiPartner": "TDID"}}]},
        {"source": "uidapi.com", "uids": [{"id": f"A4AAA{token}", "atype": 3}]},
    ]
    ifa = str(UUID(int=rng.getrandbits(128), version=4))
    draft |= {
        "app": inventory.app(rng),
        "device": draft["device"] | {"ifa": ifa, "dnt": 0, "lmt": 0, "os": "Android"},
        "user": draft["user"] | {"eids": foreign + ours, "consent": rng.choice(permitting_tc())},
        "regs": {"coppa": 0, "gdpr": 1},
    }
    return _of((number,), rng, index, draft)


def _us_web(traffic: Traffic, rng: Random, index: int) -> BidRequest:
    number, draft = _plain(traffic, rng, index)
    draft["regs"] = {"coppa": 0, "gpp": rng.choice(permitting_national()), "gpp_sid": [NATIONAL]}
    return _of((number,), rng, index, draft)


def _consent_empty(traffic: Traffic, rng: Random, index: int) -> BidRequest:
    number, draft = _plain(traffic, rng, index)
    draft["user"]["ext"]["consent"] = ""
    return _of((number,), rng, index, draft)


def _ten_ids(traffic: Traffic, rng: Random, index: int) -> BidRequest:
    persons: set[int] = set()
    while len(persons) < _KNOWN_OF_TEN:
        persons.add(traffic.full_person(rng))
    known = sorted(persons)
    strangers = rng.sample(range(traffic.population.ids, 10**9), _IDS - _KNOWN_OF_TEN)
    hashes = [email_hash(number, "sha2") for number in (*known, *strangers)]
    return _of(known, rng, index, plain_draft(rng, index, hashes))


def _unknown_id(traffic: Traffic, rng: Random, index: int) -> BidRequest:
    # The last digit means SHA-256.
    stranger = rng.randrange(traffic.population.ids, 10**9) // 10 * 10 + 10
    draft = plain_draft(rng, index, [email_hash(stranger, "sha2")])
    return _of((stranger,), rng, index, draft)


def _no_identity(_: Traffic, rng: Random, index: int) -> BidRequest:
    return _of((), rng, index, plain_draft(rng, index, ()))


def _many_imps(size_bytes: int) -> Callable[[Traffic, Random, int], BidRequest]:
    def make(traffic: Traffic, rng: Random, index: int) -> BidRequest:
        number, draft = _plain(traffic, rng, index)
        imps = draft["imp"]
        left = size_bytes - len(msgspec.json.encode(draft)) - 32
        while left > 0:
            imp = _deep_imp(rng, len(imps) + 1)
            left -= len(msgspec.json.encode(imp)) + 1
            imps.append(imp)
        return _of((number,), rng, index, draft, size_bytes)

    return make


def _deep_imp(rng: Random, n: int) -> dict[str, Any]:
    """Return a banner as Prebid Server sends it to bidders, with its parameters four deep."""
    bidders = {
        bidder: {"placementId": rng.randrange(10**8), "keywords": {"pos": ["atf"], "n": [n]}}
        for bidder in ("appnexus", "rubicon")
    }
    return {
        "id": str(n),
        "tagid": f"/{rng.randrange(10**6)}/slot-{n}",
        "banner": {"format": [{"w": 300, "h": 250}, {"w": 300, "h": 600}], "pos": 1},
        "bidfloor": 0.35,
        "secure": 1,
        "ext": {"gpid": f"/{n}/slot#{n}", "prebid": {"bidder": bidders, "is_rewarded": 0}},
    }


def _mix(traffic: Traffic, rng: Random, index: int) -> BidRequest:
    [name] = rng.choices(tuple(MIX), tuple(MIX.values()))
    return NAME_TO_SHAPE[name].request(traffic, index)


def _odd_tc(rng: Random) -> Changes:
    return {"user": {"consent": _damaged(rng, rng.choice(_tc_strings()))}, "regs": {"gdpr": 1}}


def _odd_gpp(rng: Random) -> Changes:
    text, ids = rng.choice(_gpp_strings())
    return {"regs": {"gpp": _damaged(rng, text), "gpp_sid": ids}}


def _damaged(rng: Random, text: str) -> str:
    at = rng.randrange(len(text))
    return text[:at] + rng.choice("A9_~.") + text[at + 1 :] if rng.random() < _DAMAGED else text


@cache
def permitting_tc() -> list[str]:
    """Return the TC strings that permit us by default."""
    vendor = RtbSettings().pipeline_options.consent.vendor
    return [
        text
        for text in _tc_strings()
        if len(text) >= LEAST_TC_CHARS and not refusal_of_tc_string(text, vendor)
    ]


@cache
def permitting_national() -> list[str]:
    """Return the GPP strings with only a national section that permit us."""
    return [
        text
        for text, ids in _gpp_strings()
        if ids == [NATIONAL]
        and not refusal_of_gpp(
            [text],
            [ids],
            RtbSettings().pipeline_options.consent.vendor,
            without_sid_refuses=True,
            every_section=False,
            personal_data_2_permits=False,
        )
    ]


@cache
def _tc_strings() -> list[str]:
    return [json.loads(line)[0] for line in _vectors("tcf.jsonl.gz")]


@cache
def _gpp_strings() -> list[tuple[str, list[int]]]:
    vectors = map(json.loads, _vectors("gpp.jsonl.gz"))
    return [(text, [*map(int, id_to_section)]) for text, id_to_section in vectors]


def _vectors(name: str) -> list[bytes]:
    """Return the lines of a file of `tests/rtb/consent/vectors`."""
    return gzip.decompress((_VECTORS / name).read_bytes()).splitlines()


SHAPES = (
    Shape("bench", _hit),
    Shape("eu-app", _eu_app, odd_consent=_odd_tc),
    Shape("us-web", _us_web, odd_consent=_odd_gpp),
    Shape("consent-empty", _consent_empty),
    Shape("ten-ids", _ten_ids),
    Shape("unknown-id", _unknown_id),
    Shape("no-identity", _no_identity),
    Shape("imps-8k", _many_imps(8_000)),
    Shape("imps-16k", _many_imps(16_000)),
    Shape("imps-64k", _many_imps(64_000)),
    Shape("gzip-in", _hit, Way(is_folded=True)),
    Shape("gzip-out", _hit, Way(takes_gzip=True)),
    Shape("gzip", _hit, Way(is_folded=True, takes_gzip=True)),
    Shape("tls", _hit, Way(is_tls=True)),
    Shape("mix", _mix),
)
NAME_TO_SHAPE = {shape.name: shape for shape in SHAPES}
