"""The peers in Go read consent strings, and gzip, as we do: a ratio is of equal work."""

import gzip
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from loadtest.bench.peers.build import FAST, STDLIB, Deadline, Peer, Tools, peers
from loadtest.driver import PLAIN, Way, ask
from loadtest.servers import HOST, Servers
from loadtest.traffic import BidRequest
from rtb.outcome import Reason
from tests.edge.small_store import MEMBER, serving
from tests.engines import Engine

pytestmark = [
    pytest.mark.long,  # compiles fasthttp
    pytest.mark.timeout(600),
    pytest.mark.skipif(not Tools().go.exists(), reason="no Go toolchain in this environment"),
]

VECTORS = Path("tests/rtb/consent/vectors")
CHARACTERS = "ABIQYZaz09-_.~ "
SIDS_BESIDE: list[list[int]] = [[], [-1], [0], [3], [5], [7], [63], [64]]


def damaged(rng: Random, text: str) -> str:
    """Leave half of the strings whole; cut the others, or put another character in."""
    at = rng.randrange(len(text) + 1)
    damage = rng.choice(("none", "none", "cut", "replaced", "longer"))
    if damage == "cut":
        return text[:at]
    if damage == "replaced":
        return text[:at] + rng.choice(CHARACTERS) + text[at + 1 :]
    return text + rng.choice(CHARACTERS) * (damage == "longer")


def bid(index: int, **fields: Any) -> BidRequest:
    uids = [{"id": MEMBER}]
    user = {"eids": [{"source": "liveintent.com", "uids": uids}], "id": "u" * 1_500}
    user |= fields.pop("user", {})
    body = json.dumps({"id": f"r{index}", "user": user, **fields}).encode()
    return BidRequest(index, "dsp-a", body, (), Reason.NONE, is_stripped=False)


def bids() -> list[BidRequest]:
    rng = Random(1)
    made: list[dict[str, Any]] = []
    for line in gzip.decompress((VECTORS / "tcf.jsonl.gz").read_bytes()).splitlines()[::2]:
        consent = damaged(rng, json.loads(line)[0])
        user = {"ext": {"consent": consent}} if rng.random() < 0.5 else {"consent": consent}
        gdpr = rng.choice(({}, {"gdpr": 0}, {"gdpr": 1}, {"ext": {"gdpr": 1}}))
        made.append({"user": user, "regs": gdpr})
    for line in gzip.decompress((VECTORS / "gpp.jsonl.gz").read_bytes()).splitlines()[::2]:
        text, id_to_section = json.loads(line)
        sids = [*map(int, id_to_section), *rng.choice(SIDS_BESIDE)]
        regs = {"gpp": damaged(rng, text), "gpp_sid": rng.choice((sids, sids, SIDS_BESIDE[1], []))}
        made.append({"regs": {"ext": regs} if rng.random() < 0.5 else regs})
    return [bid(index, **fields) for index, fields in enumerate(made)]


@pytest.mark.parametrize("name", [FAST, STDLIB])
async def test_consent_strings_refuse_the_same(name: str, valkey: Engine, tmp_path: Path) -> None:
    requests = bids()
    [peer] = peers(tmp_path, valkey.url, Deadline(cap_ms=10_000), names=[name])
    assert isinstance(peer, Peer), peer
    async with serving(valkey.url, deadline_cap_ms=10_000) as service, Servers(None) as servers:
        ours = await ask(HOST, service.port, requests)
        server = await peer.start(servers)
        theirs = await ask(HOST, server.port, requests)

    outcomes = Counter(exchange.answer.outcome for exchange in ours)
    assert outcomes.keys() == {"enriched", "no_consent"}
    assert min(outcomes.values()) > len(requests) / 10
    for request, our, their in zip(requests, ours, theirs, strict=True):
        assert their.answer.outcome == our.answer.outcome, request.body[-900:]


async def test_gzip_is_taken_and_given(valkey: Engine, tmp_path: Path) -> None:
    [peer] = peers(tmp_path, valkey.url, Deadline(cap_ms=10_000), names=[FAST])
    assert isinstance(peer, Peer), peer
    ways = (PLAIN, Way(is_folded=True), Way(takes_gzip=True), Way(is_folded=True, takes_gzip=True))
    async with serving(valkey.url, deadline_cap_ms=10_000) as service, Servers(None) as servers:
        server = await peer.start(servers)
        for way in ways:
            [our] = await ask(HOST, service.port, [bid(1)], way)
            [their] = await ask(HOST, server.port, [bid(1)], way)

            assert json.loads(their.answer.body) == json.loads(our.answer.body)
            assert their.answer.outcome == our.answer.outcome == "enriched"
            is_short = their.received_bytes < len(their.answer.body)
            assert is_short == (our.received_bytes < len(our.answer.body)) == way.takes_gzip
