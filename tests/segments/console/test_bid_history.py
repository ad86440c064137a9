"""The figures of bids: from the listeners' own metrics to the pages of an operator."""

import re
from collections.abc import AsyncIterator
from importlib.metadata import version
from math import inf

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from rtb.outcome import Outcome, Reason
from rtb.server.metrics.admin_port import Board, application
from rtb.server.metrics.layout import timings_of
from rtb.server.metrics.shared_counters import SharedCounters, create
from segments.console.bid_figures import GROUPS, TRUSTED
from segments.console.bid_history import MINUTES, RECENT_S, BidHistory, quantile
from segments.model.role import Role
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from segments.upkeep.listener_figures import Counts, Ending, Reading, read_all
from tests.console import Served, serving_console
from tests.engines import Engine, free_port
from tests.ledger_seed import Seeded

NOW_S = 1_793_000_040.0  # at the start of a minute
GOOD, LATE = Ending("dsp-a", "enriched", ""), Ending("", "out_of_time", "")
FORBIDDEN = Ending("dsp-a", "no_consent", "lmt")


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def reading(at_s: float, endings: dict[Ending, float], *, url: str = "http://a") -> Reading:
    answers = sum(endings.values())
    edges = {0.001: answers * 0.5, 0.002: answers, inf: answers}
    return Reading(url, at_s, Counts(endings, edges, 7, 4, 3), "", "0.2", True, True, "")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def history(clock: Clock) -> BidHistory:
    return BidHistory(["http://a", "http://b"], clock)


def pass_by(history: BidHistory, clock: Clock, seconds: float, *readings: Reading) -> None:
    clock.now_s += seconds
    history.take(readings)


def test_what_was_counted_before_is_not_recent(history: BidHistory, clock: Clock) -> None:
    history.take([reading(NOW_S, {GOOD: 1e9})])
    pass_by(history, clock, 5, reading(NOW_S + 5, {GOOD: 1e9 + 40, LATE: 10}))

    figures = history.figures()
    assert (figures.recent, figures.recent_s) == ({GOOD: 40, LATE: 10}, 5)


def test_a_listener_that_began_anew_counts_from_zero(history: BidHistory, clock: Clock) -> None:
    history.take([reading(NOW_S, {GOOD: 100})])
    pass_by(history, clock, 5, reading(NOW_S, {GOOD: 30}))

    assert history.figures().recent == {GOOD: 30}


def test_an_absence_loses_no_bid_and_says_why(history: BidHistory, clock: Clock) -> None:
    history.take([reading(NOW_S, {GOOD: 100})])
    pass_by(history, clock, 5, Reading("http://a", NOW_S, trouble="it is away"))
    assert history.figures().readings[0].trouble == "it is away"

    pass_by(history, clock, 5, reading(NOW_S, {GOOD: 130}))
    assert history.figures().recent == {GOOD: 30}
    assert history.figures().readings[0].trouble == ""


def test_an_hour_and_five_minutes_are_kept(history: BidHistory, clock: Clock) -> None:
    for n in range(2 * 3600 // 5):
        pass_by(
            history,
            clock,
            5,
            reading(clock(), {GOOD: 10 * n}),
            reading(clock(), {GOOD: 0}, url="http://b"),
        )

    figures = history.figures()
    assert figures.recent_s == RECENT_S
    assert figures.recent[GOOD] == pytest.approx(2 * RECENT_S, abs=10)
    assert len(figures.minutes) == MINUTES
    assert {round(each.per_s, 3) for each in figures.minutes} == {2}
    # Half within 1 ms, the others within 2 ms: 99 of 100 are at 98 % of the second half.
    assert {round(each.p99_s or 0, 6) for each in figures.minutes} == {0.00198}
    assert figures.minutes[-1].from_s + 60 <= clock()


@given(st.lists(st.integers(0, 10**6), min_size=3, max_size=3), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_its_rank(counts: list[int], share: float) -> None:
    first, second, beyond = counts
    edges = {0.1: first, 0.2: first + second, inf: first + second + beyond}
    found = quantile(edges, share)

    if not sum(counts):
        assert found is None
    elif share * sum(counts) <= first:
        assert found is not None
        assert 0 <= found <= 0.1
    elif share * sum(counts) <= first + second:
        assert found is not None
        assert 0.1 <= found <= 0.2
    else:
        assert found == inf


def board() -> Board:
    """Metrics of a listener that has answered three bids."""
    counters = SharedCounters(create(1), 0)
    counters.start()
    patched, *_ = timings_of("1.1", "/openrtb2/patch")
    for recipient, outcome, reason in (
        ("dsp-a", Outcome.ENRICHED, Reason.NONE),
        ("dsp-a", Outcome.ENRICHED, Reason.NONE),
        (None, Outcome.NO_CONSENT, Reason.LMT),
    ):
        base = counters.requests_of(recipient)
        counters.count_request(base, patched, outcome, reason, 0.0007)
    return Board([counters])


async def test_a_listener_is_read_by_its_own_metrics() -> None:
    async with TestServer(application(board())) as server:
        url = str(server.make_url("")).rstrip("/")
        one, other = await read_all([url, f"http://127.0.0.1:{free_port()}"], Clock())

    assert one.counts is not None
    told = {ending: count for ending, count in one.counts.endings.items() if count}
    assert told == {GOOD: 2, Ending("", "no_consent", "lmt"): 1}
    assert one.counts.edge_to_answers[0.0005] == 0
    assert one.counts.edge_to_answers[0.001] == one.counts.edge_to_answers[inf] == 3
    assert (one.counts.workers, one.counts.ready_workers) == (1, 0)
    assert (one.is_ready, one.version) == (False, version("rtb-segments"))
    assert one.reason == "worker 0: does not respond"
    assert "can't be reached" in other.trouble


async def test_another_server_is_no_listener() -> None:
    async def anything(_: web.Request) -> web.Response:
        return web.Response(text="{}")

    app = web.Application()
    app.router.add_get("/{any:.*}", anything)
    async with TestServer(app) as server:
        (read,) = await read_all([str(server.make_url(""))], Clock())

    assert read.trouble == "it is no bid listener of this version"


def test_every_outcome_but_no_other_has_a_column() -> None:
    listed = [outcome for group in GROUPS for outcome in group.outcomes]
    assert sorted(listed) == sorted(outcome.value for outcome in Outcome)


@pytest.fixture
async def served(
    settings: Settings, ledger: AsyncEngine, valkey: Engine, history: BidHistory
) -> AsyncIterator[Served]:
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving_console(settings, ledger, redis, history=history) as served:
            yield served


async def test_an_operator_sees_what_becomes_of_bids(
    served: Served, seeded: Seeded, history: BidHistory, clock: Clock
) -> None:
    dsp = seeded.dsp.name
    passing = reading(NOW_S, {LATE: 0}, url="http://b")._replace(
        is_enriching=False, reason="store down"
    )
    async with served.staff_of(Role.OPERATOR) as ada:
        assert "No listener was read yet" in (await ada.see("/ops")).said
        history.take([reading(NOW_S, {GOOD: 0})])
        for n in range(1, 40):
            counts = {GOOD: 75.0 * n, FORBIDDEN: 25.0 * n, LATE: 10.0 * n}
            pass_by(history, clock, 5, reading(clock(), counts), passing._replace(at_s=clock()))
        served.clock.ahead_s += clock() - served.clock()
        page = await ada.see("/ops")
        listed = await ada.see("/ops/recipients")
        one = await ada.see(f"/ops/recipients/{dsp}")

    assert re.search(rf"{dsp} 20 75 % 0 0 0 25 % 0 0 0 {TRUSTED} 2 0 0 0 0 0 0 100 % 0", page.said)
    assert 'aria-label="75 % enriched"' in page.text
    assert "no_consent by lmt 22.7 %" in page.said
    assert "1 thing needs you" in page.said
    assert "Store down . Bids pass through unchanged." in page.said
    assert "Answers: 99 of 100 within 1.98 ms now" in page.text
    assert "3 of 4 workers ready, 7 connections" in page.said
    assert "20 75 % Active" in listed.said
    assert "no_consent by lmt 25 %" in one.said
    assert TRUSTED not in one.said
