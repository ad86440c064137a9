"""What the contracts say of one server, kept by a Cluster: the same tests over its client."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from segments.store.servers.connection import connect
from tests.cluster import TestCluster, in_thread
from tests.contract.test_caching import (
    test_longest_lease_stands_while_it_is_renewed,
    test_nobody_waits_where_nobody_caches,
)
from tests.contract.test_meta import (
    test_opt_outs_do_not_move_past_what_the_store_lacks,
    test_opt_outs_move_forward_and_never_back,
)
from tests.contract.test_request_rate import (
    test_accounts_are_counted_apart,
    test_burst_is_admitted_and_then_one_each_two_seconds,
)
from tests.contract.test_retain import (
    test_only_those_who_are_not_named_leave_and_only_that_audience,
    test_record_that_cannot_be_read_stops_it,
)
from tests.contract.test_seen import (
    test_bits_of_two_days_are_not_put_together,
    test_day_that_is_over_too_long_is_not_asked,
    test_ids_are_found_on_whichever_day_they_were_seen,
)
from tests.contract.test_writer import (
    test_many_random_ids_are_merged_and_found,
    test_match_of_nothing_asks_nothing,
    test_other_buckets_are_written_beside_a_corrupt_one,
)

__all__ = [
    "test_accounts_are_counted_apart",
    "test_bits_of_two_days_are_not_put_together",
    "test_burst_is_admitted_and_then_one_each_two_seconds",
    "test_day_that_is_over_too_long_is_not_asked",
    "test_ids_are_found_on_whichever_day_they_were_seen",
    "test_longest_lease_stands_while_it_is_renewed",
    "test_many_random_ids_are_merged_and_found",
    "test_match_of_nothing_asks_nothing",
    "test_nobody_waits_where_nobody_caches",
    "test_only_those_who_are_not_named_leave_and_only_that_audience",
    "test_opt_outs_do_not_move_past_what_the_store_lacks",
    "test_opt_outs_move_forward_and_never_back",
    "test_other_buckets_are_written_beside_a_corrupt_one",
    "test_record_that_cannot_be_read_stops_it",
]

pytestmark = pytest.mark.xdist_group("cluster")  # six servers are enough at a time


@pytest.fixture
async def redis_client(cluster: TestCluster) -> AsyncIterator[Redis]:
    """A client of a Cluster, in place of one server's."""
    async with connect(cluster.url) as client:
        yield client


async def test_next_test_finds_a_well_cluster_whatever_the_last_one_cut_off(
    cluster: TestCluster,
) -> None:
    """
    A test that fails between `cut_off` and `reconnect` must not fail all tests after it.
    """
    master = (await in_thread(cluster.masters))[0]
    [replica] = await in_thread(cluster.replicas_of, master)
    await in_thread(cluster.cut_off, replica)

    await in_thread(cluster.heal)

    assert await in_thread(cluster.is_linked, replica)
