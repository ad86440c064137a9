"""
Checks that a server keeps the contract before it is measured.

Ours must be exactly right. A peer's must be the same, except for the spelling of numbers (orjson
writes `1.1` for `1.10`) and the order of segments. Requests that a peer can't read without loss are
left out, and must be few. Malformed requests must be refused: parsing the whole body is measured.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from loadtest.answers import LATE, Verdict, judge
from loadtest.bench.values import values
from loadtest.driver import PLAIN, Exchange, Way, ask
from loadtest.population import Population
from loadtest.servers import HOST, Server
from loadtest.traffic import BidRequest, expectation
from rtb.outcome import Outcome, Reason

_COMPARABLE = 0.8
_REFUSED = 400
_READY_WITHIN_S = 20.0
_POLL_S = 0.05
_TRIES = 5


class WrongAnswers(Exception):
    """A server gives wrong answers, so its cost means nothing."""


async def until_enriched(server: Server, hit: BidRequest, way: Way = PLAIN) -> None:
    """
    Wait until a server has its store and its catalog.

    Raises:
        WrongAnswers: Not ready after `_READY_WITHIN_S`.
    """
    give_up_at_s = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < give_up_at_s:
        (exchange,) = await ask(HOST, server.port, [hit], way)
        if exchange.answer.outcome == Outcome.ENRICHED:
            return
        await asyncio.sleep(_POLL_S)
    raise WrongAnswers(f"{server.name}: {exchange.answer.outcome!r} after {_READY_WITHIN_S} s")


async def check_ours(
    server: Server, requests: Sequence[BidRequest], population: Population, way: Way = PLAIN
) -> list[Exchange]:
    """
    Send requests sequentially and judge every answer.

    Raises:
        WrongAnswers: Names the first request with a wrong answer.
    """
    exchanges = await in_time(server, requests, way)
    for request, exchange in zip(requests, exchanges, strict=True):
        judgement = judge(request, expectation(request, population), exchange.answer)
        if judgement.verdict is not Verdict.RIGHT:
            raise WrongAnswers(f"{server.name}: {judgement.verdict}, {judgement.why}")
    return exchanges


async def check_peer(
    server: Server,
    requests: Sequence[BidRequest],
    ours: Sequence[Exchange],
    survives: Callable[[bytes], bool],
    way: Way = PLAIN,
) -> list[Exchange]:
    """
    Send the same requests as to ours and compare the answers.

    Args:
        server: The peer.
        requests: As sent to ours.
        ours: Our answers.
        survives: Tells whether the peer reads a body without loss.
        way: How they are sent.

    Raises:
        WrongAnswers: Names the first request whose answer differs, or says that too few can be
            compared.
    """
    pairs = [pair for pair in zip(requests, ours, strict=True) if survives(pair[0].body)]
    if len(pairs) < len(requests) * _COMPARABLE:
        raise WrongAnswers(f"{server.name}: only {len(pairs)} answers can be compared")
    exchanges = await in_time(server, [request for request, _ in pairs], way)
    for (request, our), exchange in zip(pairs, exchanges, strict=True):
        mine, theirs = our.answer, exchange.answer
        if (mine.status, mine.outcome) != (theirs.status, theirs.outcome):
            raise WrongAnswers(
                f"{server.name}: request {request.index}: {theirs.outcome!r}, ours {mine.outcome!r}"
            )
        if values(mine.body) != values(theirs.body):
            raise WrongAnswers(f"{server.name}: request {request.index}: another body than ours")
    return exchanges


async def check_refusals(server: Server, hit: BidRequest) -> None:
    """
    Send malformed requests, each on its own connection.

    Raises:
        WrongAnswers: A request was not refused.
    """
    cut, unfinished = hit.body[: len(hit.body) // 2], hit.body[:-1]
    for body in (cut, unfinished, b"[" + hit.body + b"]", b"{'id':1}", b"4"):
        broken = BidRequest(hit.index, hit.recipient, body, (), Reason.NONE, is_stripped=False)
        (exchange,) = await ask(HOST, server.port, [broken])
        status = exchange.answer.status
        if status != _REFUSED:
            raise WrongAnswers(f"{server.name}: status {status} for {len(body)} bad bytes")


async def in_time(
    server: Server, requests: Sequence[BidRequest], way: Way = PLAIN
) -> list[Exchange]:
    """Send requests sequentially, and late ones again."""
    exchanges = await ask(HOST, server.port, requests, way)
    for n, request in enumerate(requests):
        for _ in range(_TRIES):
            if exchanges[n].answer.outcome not in LATE:
                break
            (exchanges[n],) = await ask(HOST, server.port, [request], way)
    return exchanges
