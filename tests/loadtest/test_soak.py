"""A soak is worth what its judge notices."""

import asyncio
import queue
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from multiprocessing import get_context

import pytest

from loadtest.answers import Verdict
from loadtest.population import Population
from loadtest.soak.drive import Driver
from loadtest.soak.judge import CLOSE, Judge, Phase, end_of
from loadtest.soak.shared import Count, Shared, WaveState
from loadtest.soak.table import NO_WAVE, Change, Due, Later, Wave, table_of
from loadtest.traffic import BidRequest, Expectation
from rtb.outcome import Outcome, Reason
from tests.edge.small_store import eventually

BODY = b'{"id":"1"}'
REQUEST = BidRequest(0, None, BODY, (), Reason.NONE, is_stripped=False)
NO_MATCH, OPTED_OUT = Expectation(Outcome.NO_MATCH), Expectation(Outcome.OPTED_OUT)
STEADY = Due(REQUEST, BODY, (NO_MATCH,), NO_WAVE)
CHANGING = Due(REQUEST, BODY, (NO_MATCH, OPTED_OUT), 0)


def answer(outcome: str = "no_match", body: bytes = BODY, version: str = "2.6") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nX-Enrich-Outcome: {outcome}\r\nContent-Type: application/json\r\n"
    head += f"x-openrtb-version: {version}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("came", "verdict"),
    [
        pytest.param(answer(), Verdict.RIGHT, id="as due"),
        pytest.param(answer("out_of_time"), Verdict.LATE, id="passed through"),
        pytest.param(answer("out_of_time", b'{"id": "1"}'), Verdict.WRONG, id="and was changed"),
        pytest.param(answer(body=b'{"id":"2"}'), Verdict.WRONG, id="one byte of the body"),
        pytest.param(answer(version="2.5"), Verdict.WRONG, id="one byte of the head"),
        pytest.param(answer("enriched"), Verdict.WRONG, id="another outcome"),
        pytest.param(answer().replace(b"200 OK", b"500 No"), Verdict.WRONG, id="another status"),
    ],
)
def test_answer_is_judged_to_the_byte_and_again_the_same_way(came: bytes, verdict: Verdict) -> None:
    judge = Judge([STEADY])

    assert [judge.judge(0, came, Phase.BEFORE).verdict for _ in range(3)] == [verdict] * 3
    assert judge.in_full == (3 if verdict is Verdict.WRONG else 1)


@pytest.mark.parametrize(
    ("phase", "right"),
    [
        pytest.param(Phase.BEFORE, ["no_match"], id="before it said no"),
        pytest.param(Phase.DURING, ["no_match", "opted_out"], id="meanwhile either"),
        pytest.param(Phase.AFTER, ["opted_out"], id="once it is in force"),
    ],
)
def test_answer_of_a_person_who_changes_is_right_in_its_time_alone(
    phase: Phase, right: list[str]
) -> None:
    judge = Judge([CHANGING])
    # Both have been right before, and are remembered.
    for outcome in ("no_match", "opted_out"):
        judge.judge(0, answer(outcome), Phase.DURING)

    judged = {o: judge.judge(0, answer(o), phase).verdict for o in ("no_match", "opted_out")}

    assert [o for o, verdict in judged.items() if verdict is Verdict.RIGHT] == right


@pytest.mark.parametrize("cut", [1, 20, len(answer()) - 1])
def test_end_of_an_answer_is_known_from_its_head_on(cut: int) -> None:
    whole = answer()

    assert end_of(whole) == len(whole)
    assert end_of(whole + b"more") == len(whole)
    assert end_of(whole[:cut]) in (0, len(whole))


def test_table_has_no_request_of_two_waves_and_what_is_due_differs_after_its_wave() -> None:
    table = table_of(Population(2_000), seed=1, requests=800, waves=12, host="x")
    wave_of = {n: i for i, wave in enumerate(table.waves) for n in wave.numbers}
    changing = [due for due in table.dues if due.wave != NO_WAVE]

    assert {wave.change for wave in table.waves} == set(Change)
    assert all(
        {wave_of[n] for n in due.request.planted if n in wave_of} == {due.wave} for due in changing
    )
    # Those whose own signals refuse, or who meet a recipient without grants, change nothing.
    changes = {(due.expected[0].outcome, due.expected[1].outcome) for due in changing}
    assert (Outcome.ENRICHED, Outcome.OPTED_OUT) in changes
    assert (Outcome.NO_MATCH, Outcome.ENRICHED) in changes
    assert not [due for due in changing if len(due.expected) != 2]


def test_who_joins_has_segments_and_who_says_no_has_said_it() -> None:
    seeded = Population(1_000)
    stranger, member = 1_000, 1

    later = Later(seeded, [Wave(Change.JOIN, (stranger,)), Wave(Change.ERASURE, (member,))])

    assert seeded.live_segments([stranger], None) == {}
    assert later.live_segments([stranger], None)
    assert (seeded.has_opted_out(member), later.has_opted_out(member)) == (False, True)


Reply = Callable[[int], bytes | None]


@asynccontextmanager
async def serving(reply: Reply) -> AsyncIterator[int]:
    """Answer the n-th request of all with `reply(n)`; nothing: close."""
    served = 0
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        serving.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readexactly(len(BODY))
                served += 1
                said = reply(served)
                if said is None:
                    break
                writer.write(said)
                if CLOSE in said:
                    break
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        await asyncio.gather(*filter(None, serving))


async def driven(reply: Reply, shared: Shared, due: Due = STEADY) -> queue.Queue[str]:
    notes: queue.Queue[str] = queue.Queue()
    async with serving(reply) as port:
        driver = Driver(0, [due], port, shared, notes)
        driving = asyncio.create_task(driver.run(connections=3))
        await eventually(lambda: shared.total(Count.ANSWERED) + shared.total(Count.LOST) > 300)
        shared.ends()
        await driving
    return notes


@pytest.fixture
def shared() -> Shared:
    return Shared(get_context("spawn"), drivers=1, waves=1)


async def test_right_answers_are_counted_and_nothing_else(shared: Shared) -> None:
    notes = await driven(lambda _: answer(), shared)

    counted = {count.name: shared.total(count) for count in Count}
    assert counted["ANSWERED"] == counted["RIGHT"] >= 300
    assert counted["WRONG"] == counted["LOST"] == 0
    assert counted["IN_FULL"] == 1
    assert notes.empty()


async def test_connection_that_says_it_ends_is_followed_by_another(shared: Shared) -> None:
    polite = answer().replace(b"Content-Length", CLOSE + b"Content-Length")

    await driven(lambda n: polite if n % 50 == 0 else answer(), shared)

    assert shared.total(Count.ENDED_POLITELY) >= 5
    assert shared.total(Count.RIGHT) == shared.total(Count.ANSWERED)
    assert shared.total(Count.WRONG) == 0


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        pytest.param(answer("enriched"), "outcome", id="another outcome"),
        pytest.param(answer(body=b'{"id":1}'), "bytes that are not", id="another body"),
        pytest.param(answer() + b"x", "belong to no answer", id="bytes behind it"),
        pytest.param(None, "with a request in flight", id="a connection cut off"),
    ],
)
async def test_one_fault_among_many_is_noticed(
    shared: Shared, fault: bytes | None, why: str
) -> None:
    notes = await driven(lambda n: fault if n == 200 else answer(), shared)

    assert shared.total(Count.WRONG) == 1
    assert why in notes.get_nowait()


async def test_connection_that_is_lost_with_its_worker_is_lost_and_not_wrong(
    shared: Shared,
) -> None:
    shared.kills(time.monotonic_ns())

    await driven(lambda n: None if n % 100 == 0 else answer(), shared)

    assert shared.total(Count.LOST) >= 2
    assert shared.total(Count.WRONG) == 0


@pytest.mark.parametrize("is_broken", [True, False])
async def test_what_passes_through_is_counted_by_whether_anything_was_broken(
    shared: Shared, is_broken: bool
) -> None:
    if is_broken:
        shared.breaks()

    await driven(lambda n: answer("store_down") if n % 10 == 0 else answer(), shared)

    late = shared.total(Count.ANSWERED) - shared.total(Count.RIGHT)
    assert shared.total(Count.STORE_DOWN if is_broken else Count.CALM_STORE_DOWN) == late > 20
    assert shared.total(Count.WRONG) == 0


async def test_old_answer_after_a_wave_is_over_is_wrong(shared: Shared) -> None:
    shared.waves[0] = WaveState.OVER

    notes = await driven(lambda n: answer("no_match" if n == 7 else "opted_out"), shared, CHANGING)

    assert shared.total(Count.WRONG) == 1
    assert "outcome 'no_match', not 'opted_out'" in notes.get_nowait()
