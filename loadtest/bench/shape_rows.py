"""
`python -m loadtest shapes`: CPU a bid of each shape, beside Go's fasthttp, in one table.

All servers run at once, pinned to the same CPU; `wrk` and store have another. Shapes and servers
take turns, so that a slow minute of the machine meets all of a round. First, `CHECKED` answers of
each shape must be right and the peer's the same, also of odd consent strings. Over TLS each is
another process with the same certificate; the servers choose the cipher. A bid by gRPC has no peer
in Go: its row is ours by gRPC to ours in JSON, both by `h2load`.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import trustme
import uvloop

from loadtest.artf.calls import message_of
from loadtest.bench import calls, h2load, saturation
from loadtest.bench.against_peers import start_ours
from loadtest.bench.checks import (
    WrongAnswers,
    check_ours,
    check_peer,
    in_time,
    until_enriched,
)
from loadtest.bench.costs import say
from loadtest.bench.peers.build import Deadline
from loadtest.bench.shape_report import GRPC, Costs, Report
from loadtest.bench.shapes import SHAPES, Shape
from loadtest.bench.stage import NotPossible, PeerStage, staged_beside_go
from loadtest.driver import Exchange
from loadtest.servers import HOST, Server
from loadtest.traffic import BidRequest
from rtb.outcome import Outcome

CONNECTIONS = 32
CHECKED = 1_000
DIFFERENT = 256
"""Requests of a shape that are sent in turn."""

_BENCH = SHAPES[0]

_DEADLINE = Deadline(cap_ms=1_000, tmax_share=1)


class Extent(NamedTuple):
    """The size of the measurement."""

    ids: int
    """Persons in the store."""
    rounds: int
    """Turns of each shape and server."""
    seconds: int
    """Seconds of saturation in a turn."""
    calls: int
    """Bids of the row of gRPC in a turn."""


class Turn(NamedTuple):
    """A shape, and each server's requests and answers."""

    shape: Shape
    exchanges: Mapping[Server, Sequence[Exchange]]


class Pair(NamedTuple):
    """Ours and the peer."""

    ours: Server
    peer: Server


def shapes(extent: Extent, names: Sequence[str]) -> Report:
    """
    Run the benchmark for shapes by name.

    Raises:
        WrongAnswers: A server does not keep the contract.
        NotPossible: There is no peer, or no driver.
    """
    if not saturation.is_possible():
        raise NotPossible("wrk is not installed")
    with tempfile.TemporaryDirectory(prefix="rtb-shapes-") as directory:
        return uvloop.run(_shapes(Path(directory), extent, names))


async def _shapes(directory: Path, extent: Extent, names: Sequence[str]) -> Report:
    async with staged_beside_go(directory, extent.ids, _DEADLINE) as stage:
        run = _Run(stage, extent)
        found = await run.measured([shape for shape in SHAPES if shape.name in names])
        if GRPC in names:
            found[GRPC] = await run.by_grpc()
        return Report(stage.head, extent._asdict(), found)


class _Run:
    def __init__(self, stage: PeerStage, extent: Extent) -> None:
        self._stage = stage
        self._traffic = stage.traffic
        self._extent = extent

    async def measured(self, wanted: Sequence[Shape]) -> dict[str, Costs]:
        pairs: dict[bool, Pair] = {}
        turns = []
        for shape in wanted:
            is_tls = shape.way.is_tls
            if is_tls not in pairs:
                pairs[is_tls] = await self._start(shape)
            turns.append(await self._checked(shape, pairs[is_tls]))
        found = {shape.name: Costs([], []) for shape in wanted}
        for number in range(self._extent.rounds):
            say(f"round {number + 1} of {self._extent.rounds}")
            for turn in turns:
                for costs, (server, exchanges) in zip(
                    found[turn.shape.name], turn.exchanges.items(), strict=True
                ):
                    costs.append(await self._cost_us(turn.shape, server, exchanges))
        return found

    async def by_grpc(self) -> Costs:
        """Measure a bid by gRPC, and the same in JSON."""
        if not h2load.is_possible():
            raise NotPossible("h2load is not installed")
        hit = _BENCH.request(self._traffic, 0)
        server = await start_ours(self._stage.servers, self._stage.settings, calls.SERVICE)
        await until_enriched(server, hit)
        [exchange] = await check_ours(server, [hit], self._traffic.population)
        message = message_of(hit, calls.TMAX_MS)
        [answer] = await calls.called(server.port, [message])
        asks = (
            (calls.ask_by_grpc(message, answer), calls.ONE),
            (calls.ask_in_json(exchange), calls.JSON),
        )
        costs = Costs([], [])
        for _ in range(self._extent.rounds):
            for found, (ask, streams) in zip(costs, asks, strict=True):
                cost = await h2load.cost_us(
                    server, ask, streams, count=self._extent.calls, directory=self._stage.directory
                )
                found.append(cost)
        return costs

    async def _start(self, shape: Shape) -> Pair:
        servers, settings, peer = self._stage.servers, self._stage.settings, self._stage.peer
        env: dict[str, str] = {}
        if shape.way.is_tls:
            cert, key = certificate(self._stage.directory)
            env = {"RTB_TLS_CERT": str(cert), "RTB_TLS_KEY": str(key)}
            argv, tls = peer.argv, ("--tls-cert", str(cert), "--tls-key", str(key))
            peer = peer._replace(argv=lambda port: [*argv(port), *tls])
        pair = Pair(await start_ours(servers, settings, env), await peer.start(servers))
        for server in pair:
            await until_enriched(server, _BENCH.request(self._traffic, 0), shape.way)
        return pair

    async def _checked(self, shape: Shape, pair: Pair) -> Turn:
        say(f"checking {shape.name}")
        way = shape.way
        requests = [shape.request(self._traffic, index) for index in range(CHECKED)]
        ours = await check_ours(pair.ours, requests, self._traffic.population, way)
        theirs = await check_peer(pair.peer, requests, ours, lambda _: True, way)
        odd = [shape.odd(self._traffic, index) for index in range(CHECKED)]
        await self._check_odd(pair, [request for request in odd if request is not None])
        return Turn(shape, {pair.ours: ours[:DIFFERENT], pair.peer: theirs[:DIFFERENT]})

    async def _check_odd(self, pair: Pair, requests: Sequence[BidRequest]) -> None:
        if not requests:
            return
        ours = await in_time(pair.ours, requests)
        outcomes = {exchange.answer.outcome for exchange in ours}
        if outcomes != {Outcome.ENRICHED, Outcome.NO_CONSENT}:
            raise WrongAnswers(f"odd consent strings: {outcomes}")
        await check_peer(pair.peer, requests, ours, lambda _: True)

    async def _cost_us(self, shape: Shape, server: Server, exchanges: Sequence[Exchange]) -> float:
        found = await saturation.saturate(
            server,
            exchanges,
            connections=CONNECTIONS,
            seconds=self._extent.seconds,
            directory=self._stage.directory,
            scheme="https" if shape.way.is_tls else "http",
        )
        return found.cpu_us


def certificate(directory: Path) -> tuple[Path, Path]:
    """Write a certificate for this host and its key, both of P-256; return the files."""
    cert, key = directory / "tls.pem", directory / "tls.key"
    issued = trustme.CA().issue_cert(HOST)
    cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return cert, key
