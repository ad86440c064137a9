"""Counting in shared memory, and what Prometheus is shown of it."""

from random import Random

import pytest

from rtb.lookup.caching_lookup import CachingLookup
from rtb.lookup.endpoint import door_of
from rtb.lookup.link import LookupFault
from rtb.lookup.lookup import Options
from rtb.lookup.near_cache.lease import Room
from rtb.outcome import Outcome, Reason
from rtb.server.metrics import layout
from rtb.server.metrics.admin_port import Board
from rtb.server.metrics.cache_meter import CacheMeter
from rtb.server.metrics.layout import LINK_FAULT, LINK_UP, Gauge
from rtb.server.metrics.shared_counters import Slab, create
from segments.model.identity import Kind

NOW_S = 1_767_225_600.0


def shown(board: Board) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in board.collect()
        for sample in family.samples
    }


def well(slab: Slab) -> None:
    slab.start()
    slab.cells[Gauge.BEAT_AT_S] = int(NOW_S)
    slab.cells[Gauge.LINK] = LINK_UP
    slab.cells[Gauge.CATALOG_SEEN_AT_S] = int(NOW_S)


def board_of(*slabs: Slab) -> Board:
    return Board(slabs, catalog_max_age_s=30, wall_s=lambda: NOW_S)


def test_workers_are_summed() -> None:
    fd = create(2)
    one, two = Slab(fd, 0), Slab(fd, 1)
    for slab, count in ((one, 2), (two, 3)):
        for _ in range(count):
            base = slab.requests_of("dsp-a")
            slab.count_request(base, Outcome.ENRICHED, Reason.NONE, 0.0007)
            slab.count_ids((Kind.EMAIL, Kind.IFA), (b"record", None))
            slab.count_round_trip(3)

    samples = shown(board_of(one, two))

    assert samples["rtb_requests_total", "dsp-a", "enriched", ""] == 5
    assert samples["rtb_ids_total", "email", "found"] == 5
    assert samples["rtb_ids_total", "ifa", "unknown"] == 5
    assert samples["rtb_store_round_trips_total",] == 5
    assert samples["rtb_store_batch_ids_bucket", "2"] == 0
    assert samples["rtb_store_batch_ids_bucket", "4"] == 5
    assert samples["rtb_request_seconds_bucket", "0.0005"] == 0
    assert samples["rtb_request_seconds_bucket", "0.001"] == 5
    assert round(samples["rtb_request_seconds_sum",], 6) == 0.0035


def test_outcome_that_has_not_happened_is_zero_and_not_missing() -> None:
    samples = shown(board_of(Slab(create(1), 0)))

    assert samples["rtb_requests_total", "", "store_down", ""] == 0


def test_restarted_worker_goes_on_counting_and_loses_its_gauges() -> None:
    fd = create(1)
    dead = Slab(fd, 0)
    dead.count_request(dead.requests_of("dsp-a"), Outcome.SHED, Reason.NONE, 0.001)
    dead.cells[Gauge.IN_FLIGHT] = 7

    restarted = Slab(fd, 0)
    restarted.start()
    restarted.count_request(restarted.requests_of("dsp-a"), Outcome.SHED, Reason.NONE, 0.001)

    assert restarted.requests() == {("dsp-a", Outcome.SHED, Reason.NONE): 2}
    assert restarted.cells[Gauge.IN_FLIGHT] == 0


def test_recipients_beyond_the_slots_are_counted_together() -> None:
    slab = Slab(create(1), 0)
    for i in range(300):
        slab.count_request(slab.requests_of(f"dsp-{i}"), Outcome.NO_MATCH, Reason.NONE, 0)

    counts = slab.requests()

    assert counts[layout.OTHERS, Outcome.NO_MATCH, Reason.NONE] == 300 - (layout.SLOTS - 2)
    assert sum(counts.values()) == 300


def test_well_workers_are_ready() -> None:
    fd = create(2)
    slabs = Slab(fd, 0), Slab(fd, 1)
    for slab in slabs:
        well(slab)

    assert board_of(*slabs).reasons() == []
    assert shown(board_of(*slabs))["rtb_ready",] == 1


def test_successors_and_those_who_drain_are_counted_and_have_no_say() -> None:
    """
    Of a worker that is being replaced there are two processes; one has the seat.
    """
    fd = create(3)
    draining, in_office, starting = slabs = [Slab(fd, index) for index in range(3)]
    for slab in (draining, in_office):
        well(slab)
    for slab in slabs:
        slab.count_request(slab.requests_of(None), Outcome.NO_MATCH, Reason.NONE, 0)
    draining.cells[Gauge.IS_DRAINING] = 1
    starting.start()

    board = Board(slabs, 30, wall_s=lambda: NOW_S, in_office=lambda: [in_office])

    assert board.reasons() == []
    assert shown(board)["rtb_store_up",] == 1
    assert shown(board)["rtb_requests_total", "", "no_match", ""] == 3


def test_worker_without_a_process_is_not_running() -> None:
    slab = Slab(create(1), 0)

    board = Board([slab], 30, wall_s=lambda: NOW_S, in_office=lambda: [None])

    assert board.reasons() == ["worker 0: not running"]
    assert shown(board)["rtb_store_up",] == 0


def test_each_reason_of_not_being_ready_is_named() -> None:
    fd = create(6)
    slabs = [Slab(fd, index) for index in range(6)]
    for slab in slabs[1:]:
        well(slab)
    slabs[1].cells[Gauge.BEAT_AT_S] = int(NOW_S) - 10
    slabs[2].cells[Gauge.LINK] = LINK_FAULT[LookupFault.LOADING]
    slabs[3].cells[Gauge.CATALOG_SEEN_AT_S] = int(NOW_S) - 60
    slabs[4].cells[Gauge.IS_DRAINING] = 1
    slabs[5].cells[Gauge.CATALOG_SEEN_AT_S] = 0

    assert board_of(*slabs).reasons() == [
        "worker 0: not running",
        "worker 1: does not respond",
        "worker 2: store loading",
        "worker 3: catalog not confirmed for 60 s",
        "worker 4: draining",
        "worker 5: catalog not read yet",
    ]


class Cached:
    """A worker's near cache, as far as it is counted."""

    def __init__(self, slab: Slab) -> None:
        door = door_of("redis://127.0.0.1:1")
        options = Options(door.greeting, Random(1), slab.count_round_trip, lambda _: None)
        self.lookup = CachingLookup(door.dial, options, Room(1, 20))
        self.meter = CacheMeter(self.lookup, slab)


def test_near_caches_are_summed_over_workers_that_come_and_go() -> None:
    fd = create(2)
    slabs = Slab(fd, 0), Slab(fd, 1)
    for slab in (*slabs, slabs[0]):  # the first was started anew
        cached = Cached(slab)
        cached.lookup.counts.hits, cached.lookup.counts.total_bytes = 5, 100
        cached.meter.read()
        cached.lookup.counts.hits += 2
        cached.meter.read()

    samples = shown(board_of(*slabs))

    assert samples["rtb_cache_events_total", "hits"] == 21
    assert samples["rtb_cache_events_total", "misses"] == 0
    assert samples["rtb_cache_bytes",] == 200


def test_store_that_refuses_to_be_cached_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    cached = Cached(Slab(create(1), 0))
    cached.lookup.counts.refusal = "NOPERM"

    cached.meter.read()
    cached.meter.read()

    assert [record.getMessage() for record in caplog.records] == [
        "nothing is cached: the store does not tell of changes (NOPERM)"
    ]
