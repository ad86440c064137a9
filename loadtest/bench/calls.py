"""
`python -m loadtest calls`: the cost of a bid over gRPC, beside the same bid in JSON and peers.

    ours     the production bid listener, one worker: the ARTF door, the JSON door, and the
             other hosts' forms
    peers    grpcio's own servers with the same contract: loadtest/bench/peers/grpcio_redis.py

All run at once, pinned to the same CPU; driver (h2load) and store have another. They are driven in
turns, and medians of rounds are compared. First, answers to `CHECKED` generated calls must be
right, those to plain bids equal to the JSON door's, and peers' equal to ours. All have a second for
a bid: 32 in flight keep slow servers busy for 10 ms.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import grpc
import uvloop

from loadtest.answers import LATE
from loadtest.artf import calls as artf_calls
from loadtest.artf.calls import FRAME_BYTES, PATH, VARIABLES, framed, message_of
from loadtest.artf.judge import ids_of
from loadtest.artf.messages import artf
from loadtest.bench import h2load, host_forms
from loadtest.bench.against_peers import (
    REQUEST_BYTES,
    SEGMENTS_PER_ID,
    start_ours,
)
from loadtest.bench.checks import WrongAnswers, check_ours, until_enriched
from loadtest.bench.costs import TRIES, say
from loadtest.bench.h2load import Ask, Streams
from loadtest.bench.peers.build import Deadline, Peer, grpc_peers
from loadtest.bench.stage import staged
from loadtest.driver import Exchange
from loadtest.population import Population
from loadtest.servers import HOST, Server, Servers
from loadtest.traffic import BidRequest, Traffic, expectation
from segments.settings import Settings

CHECKED = 1_000
OF_JSON = 0.9
"""At most so much of the JSON bid's CPU."""

_HITS = 64
_TIMEOUT_S = 30.0
_DEADLINE = Deadline(cap_ms=1_000, tmax_share=1)
TMAX_MS = 2_000
SERVICE = {**VARIABLES, **host_forms.VARIABLES, "RTB_DEADLINE_CAP_MS": "1000"}
"""The bid listener's settings."""
ONE, _EIGHT = Streams(1, 32), Streams(8, 4)
JSON = Streams(32, is_http1=True)


class Extent(NamedTuple):
    """The size of the measurement."""

    ids: int
    """Persons in the store."""
    requests: int
    """Requests of a row in a round."""
    rounds: int


class Row(NamedTuple):
    """A row: its name, and the bid with its server."""

    name: str
    server: Server
    ask: Ask
    streams: Streams


class Called(NamedTuple):
    """An answer to a call."""

    outcome: str
    ids: frozenset[str]
    request_id: str
    message: bytes


JSON_ROW = "JSON, HTTP/1.1, 32 connections"
ONE_ROW = "gRPC, 1 connection with 32 streams"
EIGHT_ROW = "gRPC, 8 connections with 4 streams"


def calls(extent: Extent) -> str:
    """
    Run the benchmark, and return its report.

    Raises:
        WrongAnswers: A server does not keep the contract.
    """
    if not h2load.is_possible():
        return "calls: skipped: h2load is not installed; it is in Debian's nghttp2-client."
    with tempfile.TemporaryDirectory(prefix="rtb-calls-") as directory:
        return uvloop.run(_calls(Path(directory), extent))


async def _calls(directory: Path, extent: Extent) -> str:
    async with staged(directory, extent.ids) as stage:
        rows = await _rows(stage.servers, stage.settings, stage.traffic)
        return report(stage.head, extent, await _measured(rows, extent, directory))


async def _rows(servers: Servers, settings: Settings, traffic: Traffic) -> list[Row]:
    hits = [traffic.plain_hit(index, REQUEST_BYTES) for index in range(_HITS)]
    mix = list(artf_calls.calls(traffic, CHECKED, TMAX_MS))
    ours = await start_ours(servers, settings, SERVICE)
    await until_enriched(ours, hits[0])
    say(f"checking {CHECKED:,} calls of each")
    exchanges = await check_ours(ours, hits, traffic.population)
    hit_messages = [message_of(hit, TMAX_MS) for hit in hits]
    our_hits = await called(ours.port, hit_messages)
    for exchange, answer in zip(exchanges, our_hits, strict=True):
        if (answer.outcome, answer.ids) != ("enriched", _added(exchange)):
            raise WrongAnswers(f"{answer.request_id}: other segments by gRPC than in JSON")
    messages = [message for _, message in mix]
    our_mix = await called(ours.port, messages)
    check_calls([request for request, _ in mix], our_mix, traffic.population)

    by_json = ask_in_json(exchanges[0])
    by_grpc = ask_by_grpc(hit_messages[0], our_hits[0])
    rows = [
        Row(JSON_ROW, ours, by_json, JSON),
        Row("JSON, HTTP/2, 1 connection with 32 streams", ours, by_json, ONE),
        Row(ONE_ROW, ours, by_grpc, ONE),
        Row(EIGHT_ROW, ours, by_grpc, _EIGHT),
    ]
    rows += [
        Row(f"{name}, HTTP/1.1, 32 connections", ours, ask, JSON)
        for name, ask in await host_forms.host_asks(ours, exchanges[0])
    ]
    for peer in grpc_peers(settings.store_url, _DEADLINE):
        server = await _checked(peer, servers, (*hit_messages, *messages), (*our_hits, *our_mix))
        rows += [
            Row(f"{peer.name}, 1 connection with 32 streams", server, by_grpc, ONE),
            Row(f"{peer.name}, 8 connections with 4 streams", server, by_grpc, _EIGHT),
        ]
    return rows


async def _checked(
    peer: Peer, servers: Servers, messages: Sequence[bytes], ours: Sequence[Called]
) -> Server:
    server = await peer.start(servers)
    theirs = await called(server.port, messages)
    for our, answer in zip(ours, theirs, strict=True):
        if our._replace(message=b"") != answer._replace(message=b""):
            raise WrongAnswers(
                f"{peer.name}: call {our.request_id}: {answer.outcome!r} with"
                f" {len(answer.ids)} segments, ours {our.outcome!r} with {len(our.ids)}"
            )
    return server


async def called(port: int, messages: Sequence[bytes]) -> list[Called]:
    """
    Call sequentially, by gRPC's own client; late answers again.

    Raises:
        grpc.RpcError: A status other than OK.
    """
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(f"{HOST}:{port}", options=options) as channel:
        get_mutations = channel.unary_unary(PATH)

        async def once(message: bytes) -> Called:
            call = get_mutations(message, timeout=_TIMEOUT_S, wait_for_ready=True)
            metadata = dict(await call.initial_metadata())
            return _called(str(metadata.get("x-enrich-outcome", "")), await call)

        answers = []
        for message in messages:
            for _ in range(TRIES):
                answer = await once(message)
                if answer.outcome not in LATE:
                    break
            answers.append(answer)
        return answers


def _called(outcome: str, message: bytes) -> Called:
    response = artf.RTBResponse.FromString(message)
    ids = [id_ for mutation in response.mutations for id_ in mutation.ids.id]
    if len(set(ids)) != len(ids):
        raise WrongAnswers(f"{response.id}: a segment twice")
    return Called(outcome, frozenset(ids), response.id, message)


def check_calls(
    requests: Sequence[BidRequest], answers: Sequence[Called], population: Population
) -> None:
    """
    Judge answers to calls.

    Raises:
        WrongAnswers: Names the first request with a wrong answer.
    """
    for request, answer in zip(requests, answers, strict=True):
        expected = expectation(request, population)
        if answer[:3] != (expected.outcome, ids_of(expected.segments), f"r{request.index}"):
            raise WrongAnswers(
                f"call {request.index}: {answer.outcome!r} with {len(answer.ids)} segments,"
                f" where {expected.outcome.value!r} is due"
            )


def _added(exchange: Exchange) -> frozenset[str]:
    _, _, sent = exchange.sent.partition(b"\r\n\r\n")
    before, after = (
        {f"{d['id']}:{s['id']}" for d in json.loads(body)["user"]["data"] for s in d["segment"]}
        for body in (sent, exchange.answer.body)
    )
    return frozenset(after - before)


def ask_in_json(exchange: Exchange) -> Ask:
    """Return a bid in JSON and its answer."""
    head, _, body = exchange.sent.partition(b"\r\n\r\n")
    answer_bytes = len(exchange.answer.body)
    path = head.split(b" ")[1].decode()
    return Ask(path, "application/json", body, answer_bytes, answer_bytes - len(body))


def ask_by_grpc(message: bytes, answer: Called) -> Ask:
    """Return a bid as a call, and its answer."""
    late: Any = artf.RTBResponse.FromString(answer.message)
    late.ClearField("mutations")
    added_bytes = len(answer.message) - late.ByteSize()
    return Ask(
        PATH, "application/grpc", framed(message), FRAME_BYTES + len(answer.message), added_bytes
    )


async def _measured(rows: Sequence[Row], extent: Extent, directory: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {row.name: [] for row in rows}
    for number in range(extent.rounds):
        for row in rows:
            say(f"round {number + 1} of {extent.rounds}: {row.name}")
            cost = await h2load.cost_us(
                row.server, row.ask, row.streams, count=extent.requests, directory=directory
            )
            found[row.name].append(cost)
    return found


def report(head: str, extent: Extent, name_to_us: Mapping[str, Sequence[float]]) -> str:
    """Return the report, in Markdown; ratios are of medians."""
    arguments = " ".join(f"--{name} {value}" for name, value in extent._asdict().items())
    of_json = median(name_to_us[JSON_ROW])
    lines = [
        f"`python -m loadtest calls {arguments}`: {REQUEST_BYTES:,} bytes a bid in JSON, one id"
        f" with {SEGMENTS_PER_ID} segments,",
        f"{extent.ids:,} ids in the store, one worker on one core, driver and store on another;"
        f" medians of {extent.rounds} rounds (least-most).",
        head,
        "",
        "| | CPU µs a bid | of JSON's |",
        "| --- | --- | --- |",
    ]
    for name, costs in name_to_us.items():
        spread = f"{median(costs):.1f} ({min(costs):.1f}-{max(costs):.1f})"
        lines.append(f"| {name} | {spread} | {median(costs) / of_json:.2f} |")
    lines += ["", "| target | measured | at most | |", "| --- | --- | --- | --- |"]
    for name in (ONE_ROW, EIGHT_ROW):
        ratio = median(name_to_us[name]) / of_json
        verdict = "reached" if ratio <= OF_JSON else "missed"
        lines.append(f"| {name}, of JSON's CPU | {ratio:.2f} | {OF_JSON:g} | {verdict} |")
    return "\n".join(lines)
