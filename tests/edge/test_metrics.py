"""Counting in shared memory, and what Prometheus is shown of it."""

import os
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from rtb.lookup.caching_lookup import CachingLookup
from rtb.lookup.endpoint import door_of
from rtb.lookup.link import LookupFault
from rtb.lookup.lookup import LookupOptions
from rtb.lookup.near_cache.lease import CacheLimits
from rtb.openrtb import targeting
from rtb.outcome import Outcome, OutcomeHeader, Reason
from rtb.server.answer_forms import FORMS
from rtb.server.metrics import layout
from rtb.server.metrics.admin_port import Board
from rtb.server.metrics.cache_meter import CacheMeter
from rtb.server.metrics.layout import LINK_FAULT, LINK_UP, Gauge, Refusal, Said, timings_of
from rtb.server.metrics.shared_counters import SharedCounters, create
from segments.model.identity import IdentifierKind
from segments.runtime.follow_status import (
    FollowEvent,
    FollowReader,
    FollowStatus,
    follow_dir,
    write_status,
)
from segments.runtime.health import Health

NOW_S = 1_767_225_600.0
UPTIME_S = 5000.0
PATCHED, NOTHING, MALFORMED = timings_of("1.1", "/openrtb2/patch")


def shown(board: Board) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in board.collect()
        for sample in family.samples
    }


def well(counters: SharedCounters) -> None:
    counters.start()
    counters.cells[Gauge.BEAT_AT_S] = int(UPTIME_S)
    counters.cells[Gauge.LINK] = LINK_UP
    counters.cells[Gauge.CATALOG_SEEN_AT_S] = int(NOW_S)
    counters.cells[Gauge.IS_CATALOG_CONFIRMED] = 1
    counters.cells[Gauge.HAS_ENRICHED] = 1


def board_of(*all_counters: SharedCounters) -> Board:
    return Board(all_counters, wall_s=lambda: NOW_S, monotonic_s=lambda: UPTIME_S)


def test_workers_are_summed() -> None:
    fd = create(2)
    one, two = SharedCounters(fd, 0), SharedCounters(fd, 1)
    for counters, count in ((one, 2), (two, 3)):
        for _ in range(count):
            base = counters.requests_of("dsp-a")
            counters.count_request(base, PATCHED, Outcome.ENRICHED, Reason.NONE, 0.0007)
            counters.count_ids(
                (IdentifierKind.EMAIL, IdentifierKind.IFA), (b"record", None), 0.00012
            )
            counters.count_round_trip(3)

    samples = shown(board_of(one, two))

    assert samples["rtb_requests_total", "dsp-a", "enriched", ""] == 5
    assert samples["rtb_ids_total", "email", "found"] == 5
    assert samples["rtb_ids_total", "ifa", "unknown"] == 5
    assert samples["rtb_store_wait_seconds_bucket", "0.0001"] == 0
    assert samples["rtb_store_wait_seconds_bucket", "0.00015"] == 5
    assert samples["rtb_store_round_trips_total",] == 5
    assert samples["rtb_store_batch_ids_bucket", "2"] == 0
    assert samples["rtb_store_batch_ids_bucket", "4"] == 5
    assert samples["rtb_request_seconds_bucket", "0.0005"] == 0
    assert samples["rtb_request_seconds_bucket", "0.001"] == 5
    assert round(samples["rtb_request_seconds_sum",], 6) == 0.0035


def test_times_are_counted_once_and_shown_in_the_buckets_of_hosts_too() -> None:
    """
    kb.indexexchange.com/rti_providers/guidelines_containers.htm: [0.0025, 0.005, 0.01, 0.025, 0.05]
    """
    counters = SharedCounters(create(1), 0)
    base = counters.requests_of(None)
    times_s = (0.00004, 0.0001, 0.0025, 0.0026, 0.014, 0.016, 0.021, 0.05, 0.06)
    for elapsed_s in times_s:
        counters.count_request(base, PATCHED, Outcome.ENRICHED, Reason.NONE, elapsed_s)
    counters.count_request(base, NOTHING, Outcome.NO_MATCH, Reason.NONE, 0.0007)

    samples = shown(board_of(counters))
    labels = ("POST", "200", "/openrtb2/patch", "http", "1.1")
    name = "http_server_request_duration_seconds"
    edges = [sample[-1] for sample in samples if sample[:-1] == (f"{name}_bucket", *labels)]

    assert edges == ["0.0025", "0.005", "0.01", "0.025", "0.05", "+Inf"]
    assert [samples[f"{name}_bucket", *labels, edge] for edge in edges] == [3, 4, 4, 7, 8, 9]
    assert samples[f"{name}_count", *labels] == 9
    assert samples[f"{name}_sum", *labels] == pytest.approx(sum(times_s))
    assert samples[f"{name}_count", "POST", "204", *labels[2:]] == 1
    assert samples["rtb_request_seconds_bucket", "0.00005"] == 1
    assert samples["rtb_request_seconds_bucket", "0.0001"] == 2
    assert samples["rtb_request_seconds_bucket", "0.015"] == 6
    assert samples["rtb_request_seconds_count",] == 10


def test_calls_are_also_shown_as_opentelemetry_names_them_in_milliseconds() -> None:
    """
    opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics: rpc.server.duration
    """
    counters = SharedCounters(create(1), 0)
    base = counters.requests_of(None)
    ok, nothing, malformed = layout.timings_of("2", layout.CALLS)
    for cell, elapsed_s in ((ok, 0.002), (nothing, 0.004), (ok, 0.06), (malformed, 0.001)):
        counters.count_request(base, cell, Outcome.NO_MATCH, Reason.NONE, elapsed_s)

    samples = shown(board_of(counters))
    labels = ("grpc", "RTBExtensionPoint", "GetMutations")
    name = "rpc_server_duration_milliseconds"
    edges = [sample[-1] for sample in samples if sample[:-1] == (f"{name}_bucket", *labels, "0")]

    assert edges == ["2.5", "5", "10", "25", "50", "+Inf"]
    assert [samples[f"{name}_bucket", *labels, "0", edge] for edge in edges] == [1, 2, 2, 2, 2, 3]
    assert samples[f"{name}_sum", *labels, "0"] == pytest.approx(66)
    assert samples[f"{name}_count", *labels, "3"] == 1


def test_each_form_has_a_route_to_be_counted_by() -> None:
    paths = {path.decode() for path in FORMS[OutcomeHeader.FULL]} | {targeting.PATH.decode()}

    assert paths | {layout.CALLS} == set(layout.ROUTES)


def test_refused_requests_are_among_the_times_of_hosts_by_their_status() -> None:
    counters = SharedCounters(create(1), 0)
    for refusal in (Refusal.UNKNOWN_PATH, Refusal.UNKNOWN_RECIPIENT, Refusal.TOO_MANY_CONNECTIONS):
        counters.count_refusal(refusal)

    samples = shown(board_of(counters))
    name = "http_server_request_duration_seconds_count"
    assert {key: value for key, value in samples.items() if key[0] == name and value} == {
        (name, "_OTHER", "404", "", "http", "1.1"): 2
    }


def test_each_process_has_its_own_metrics_and_one_that_is_gone_has_none() -> None:
    fd = create(2)
    here, gone = SharedCounters(fd, 0), SharedCounters(fd, 1)
    here.start()

    samples = shown(board_of(here, gone))

    shown_of = {key for key in samples if key[0].startswith("process_")}
    assert samples["process_open_fds", "worker-0"] > 3
    assert shown_of == {
        (f"process_{name}", process)
        for process in ("supervisor", "worker-0")
        for name in (
            "virtual_memory_bytes",
            "resident_memory_bytes",
            "start_time_seconds",
            "cpu_seconds_total",
            "open_fds",
            "max_fds",
        )
    }


def test_outcome_that_has_not_happened_is_zero_and_not_missing() -> None:
    samples = shown(board_of(SharedCounters(create(1), 0)))

    assert samples["rtb_requests_total", "", "store_down", ""] == 0


def test_restarted_worker_goes_on_counting_and_loses_its_gauges() -> None:
    fd = create(1)
    dead = SharedCounters(fd, 0)
    dead.count_request(dead.requests_of("dsp-a"), PATCHED, Outcome.SHED, Reason.NONE, 0.001)
    dead.cells[Gauge.IN_FLIGHT] = 7

    restarted = SharedCounters(fd, 0)
    restarted.start()
    restarted.count_request(
        restarted.requests_of("dsp-a"), PATCHED, Outcome.SHED, Reason.NONE, 0.001
    )

    assert restarted.requests() == {("dsp-a", Outcome.SHED, Reason.NONE): 2}
    assert restarted.cells[Gauge.IN_FLIGHT] == 0


def test_recipients_beyond_the_slots_are_counted_together() -> None:
    counters = SharedCounters(create(1), 0)
    for i in range(300):
        counters.count_request(
            counters.requests_of(f"dsp-{i}"), PATCHED, Outcome.NO_MATCH, Reason.NONE, 0
        )

    counts = counters.requests()

    assert counts[layout.OTHERS, Outcome.NO_MATCH, Reason.NONE] == 300 - (layout.SLOTS - 2)
    assert sum(counts.values()) == 300


def test_well_workers_are_ready() -> None:
    fd = create(2)
    all_counters = SharedCounters(fd, 0), SharedCounters(fd, 1)
    for counters in all_counters:
        well(counters)

    assert board_of(*all_counters).health() == Health([], [])
    assert shown(board_of(*all_counters))["rtb_ready",] == 1
    assert shown(board_of(*all_counters))["rtb_enriching",] == 1
    assert shown(board_of(*all_counters))["rtb_workers",] == len(all_counters)
    assert shown(board_of(*all_counters))["rtb_workers_ready",] == len(all_counters)
    all_counters[0].cells[Gauge.IS_DRAINING] = 1
    assert shown(board_of(*all_counters))["rtb_workers_ready",] == len(all_counters) - 1


def test_nodes_that_are_not_asked_are_named_and_are_no_refusal() -> None:
    counters = SharedCounters(create(1), 0)
    well(counters)
    counters.say(Said.UNASKED_NODES, "1 of 3 nodes are not asked: 10.0.0.2:6379, no connection")

    board = board_of(counters)

    assert board.health() == Health(
        [], ["worker 0: store: 1 of 3 nodes are not asked: 10.0.0.2:6379, no connection"]
    )
    assert not any(name == "rtb_store_refused" for name, *_ in shown(board))
    assert shown(board)["rtb_store_up",] == 1
    assert shown(board)["rtb_enriching",] == 0


def test_successors_and_those_who_drain_are_counted_and_have_no_say() -> None:
    """
    Of a worker that is being replaced there are two processes; one has the seat.
    """
    fd = create(3)
    draining, in_office, starting = all_counters = [SharedCounters(fd, index) for index in range(3)]
    for counters in (draining, in_office):
        well(counters)
    for counters in all_counters:
        counters.count_request(
            counters.requests_of(None), PATCHED, Outcome.NO_MATCH, Reason.NONE, 0
        )
    draining.cells[Gauge.IS_DRAINING] = 1
    starting.start()

    board = Board(
        all_counters,
        wall_s=lambda: NOW_S,
        monotonic_s=lambda: UPTIME_S,
        in_office=lambda: [in_office],
    )

    assert board.health() == Health([], [])
    assert shown(board)["rtb_store_up",] == 1
    assert shown(board)["rtb_requests_total", "", "no_match", ""] == 3


@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_worker_outlives_a_step_of_the_wall_clock(step_s: int) -> None:
    counters = SharedCounters(create(1), 0)
    well(counters)
    stepped = Board([counters], wall_s=lambda: NOW_S + step_s, monotonic_s=lambda: UPTIME_S)
    hanging = Board([counters], wall_s=lambda: NOW_S + step_s, monotonic_s=lambda: UPTIME_S + 10)

    assert stepped.health() == Health([], [])
    assert hanging.health() == Health(["worker 0: does not respond"], [])


def test_worker_without_a_process_is_not_running() -> None:
    counters = SharedCounters(create(1), 0)

    board = Board(
        [counters], wall_s=lambda: NOW_S, monotonic_s=lambda: UPTIME_S, in_office=lambda: [None]
    )

    assert board.health() == Health(["worker 0: not running"], [])
    assert shown(board)["rtb_store_up",] == 0


def test_age_of_followed_data_is_shown_and_makes_unready_when_too_high(tmp_path: Path) -> None:
    counters = SharedCounters(create(1), 0)
    well(counters)
    follow_dir(tmp_path).mkdir()
    board = Board(
        [counters],
        wall_s=lambda: NOW_S,
        monotonic_s=lambda: UPTIME_S,
        following=FollowReader(tmp_path, lambda: NOW_S, lambda: UPTIME_S),
    )
    assert board.health().unready == [
        "no follower runs: start the pod by `rtb-segments serve --follow`"
    ]
    assert not any(name.startswith("rtb_follow") for name, *_ in shown(board))

    status = FollowStatus(
        pid=os.getpid(), max_age_s=900, made_at_s=NOW_S - 20, seen_at_s=UPTIME_S, number=7,
        opt_outs=3, applied_in_s=0.5, events={FollowEvent.FULL: 1}, trouble="it hangs",
    )  # fmt: skip
    write_status(tmp_path, status)
    series = shown(board)
    assert board.health() == Health([], [], ill=["not followed: it hangs"])
    assert series["rtb_follow_age_seconds",] == 20
    assert series["rtb_follow_max_age_seconds",] == 900
    assert (series["rtb_follow_number",], series["rtb_follow_opt_outs",]) == (7, 3)
    assert series["rtb_follow_applied_seconds",] == 0.5
    assert series["rtb_follow_events_total", "full"] == 1
    assert series["rtb_follow_events_total", "older_latest"] == 0
    assert series["process_start_time_seconds", "follower"] > 0

    write_status(tmp_path, replace(status, made_at_s=NOW_S - 895))
    assert board.health().unready == [
        "the followed data are 895 s old, and RTB_FOLLOW_MAX_AGE_S permits 900 s: it hangs"
    ]


def test_each_reason_of_not_being_ready_is_named() -> None:
    fd = create(7)
    all_counters = [SharedCounters(fd, index) for index in range(7)]
    for counters in all_counters[1:]:
        well(counters)
    all_counters[1].cells[Gauge.BEAT_AT_S] = int(UPTIME_S) - 10
    all_counters[2].cells[Gauge.LINK] = LINK_FAULT[LookupFault.LOADING]
    all_counters[2].cells[Gauge.HAS_ENRICHED] = 0
    all_counters[3].cells[Gauge.CATALOG_SEEN_AT_S] = int(NOW_S) - 60
    all_counters[3].cells[Gauge.IS_CATALOG_CONFIRMED] = 0
    all_counters[4].cells[Gauge.IS_DRAINING] = 1
    all_counters[5].cells[Gauge.CATALOG_SEEN_AT_S] = 0

    unready, passing, *_ = board_of(*all_counters).health()

    assert passing == []
    assert unready == [
        "worker 0: not running",
        "worker 1: does not respond",
        "worker 2: store loading",
        "worker 3: catalog not confirmed for 60 s",
        "worker 4: draining",
        "worker 5: catalog not read yet",
    ]


@pytest.mark.parametrize("fault", LookupFault)
def test_store_that_is_lost_makes_no_worker_unready(fault: LookupFault) -> None:
    """
    Every replica has lost it, and without them all no bid would even pass through.
    """
    counters = SharedCounters(create(1), 0)
    well(counters)
    counters.cells[Gauge.LINK] = LINK_FAULT[fault]
    counters.cells[Gauge.CATALOG_SEEN_AT_S] = int(NOW_S) - 60
    counters.cells[Gauge.IS_CATALOG_CONFIRMED] = 0

    unready, passing, *_ = board_of(counters).health()

    assert unready == []
    assert passing[0].startswith("worker 0: store ")
    assert shown(board_of(counters))["rtb_ready",] == 1
    assert shown(board_of(counters))["rtb_enriching",] == 0


class Cached:
    """A worker's near cache, as far as it is counted."""

    def __init__(self, counters: SharedCounters) -> None:
        door = door_of("redis://127.0.0.1:1")
        options = LookupOptions(door.greeting, Random(1), counters.count_round_trip, lambda _: None)
        self.lookup = CachingLookup(door.dial, options, CacheLimits(1, 20))
        self.meter = CacheMeter(self.lookup, counters)


def test_near_caches_are_summed_over_workers_that_come_and_go() -> None:
    fd = create(2)
    all_counters = SharedCounters(fd, 0), SharedCounters(fd, 1)
    for counters in (*all_counters, all_counters[0]):  # the first was started anew
        cached = Cached(counters)
        cached.lookup.counts.hits, cached.lookup.counts.total_bytes = 5, 100
        cached.meter.read()
        cached.lookup.counts.hits += 2
        cached.meter.read()

    samples = shown(board_of(*all_counters))

    assert samples["rtb_cache_events_total", "hits"] == 21
    assert samples["rtb_cache_events_total", "misses"] == 0
    assert samples["rtb_cache_bytes",] == 200


def test_store_that_refuses_to_be_cached_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    cached = Cached(SharedCounters(create(1), 0))
    cached.lookup.counts.refusal = "NOPERM"

    cached.meter.read()
    cached.meter.read()

    assert [record.getMessage() for record in caplog.records] == [
        "nothing is cached: the store does not tell of changes (NOPERM)"
    ]
