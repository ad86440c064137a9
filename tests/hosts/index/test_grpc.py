"""
Index Exchange: kb.indexexchange.com/integration_partners/real_time_data_integration/rtd_grpc.htm
(30 April 2026) and rtd_grpc_mutation_examples.htm (13 February 2026).

"If Index receives any status code other than OK [...] Index's internal circuit breaker logic is
triggered". Bids come on the port of the container's health and metrics, or on another one.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from loadtest.artf.messages import rtb_request
from tests.artf.host import SERVICES, hosting
from tests.edge.small_store import MEMBER, OPTED_OUT, STRANGER, caught_up, eventually
from tests.hosts.hosted import Hosted, Store, hosted

pytestmark = pytest.mark.asyncio(loop_scope="module")

_OURS = {"RTB_ARTF_RECIPIENT": "dsp-a", "RTB_ARTF_IDS_PER_MUTATION": "1"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(store: Store) -> AsyncIterator[Hosted]:
    async with hosted("SERVER_PORT", store.engine.url, "/healthcheck", _OURS) as service:
        await eventually(lambda: service.is_answering("/healthcheck?strict"))
        yield service


def _call_of(digest: str, **regs: Any) -> bytes:
    eids = [{"source": "liveintent.com", "uids": [{"id": digest}]}]
    bid = {"id": "b1", "imp": [{"id": "imp123"}], "user": {"eids": eids}, "regs": regs}
    return rtb_request(bid, id="ix-1", tmax=100_000, lifecycle=1)


async def test_only_one_segment_is_in_a_mutation(service: Hosted) -> None:
    """ "Only one entity (for example, a deal ID or segment ID) is supported per mutation"."""
    with hosting(service.port) as host:
        replied = await asyncio.to_thread(host.call, _call_of(MEMBER), SERVICES)

    assert replied.ids == [["101"], ["102"]]


async def test_circuit_breaker_is_not_triggered_by_whatever_becomes_of_a_bid(
    service: Hosted, store: Store
) -> None:
    with hosting(service.port) as host:
        bids = [_call_of(MEMBER, coppa=1), _call_of(OPTED_OUT), _call_of(STRANGER)]
        found = [await asyncio.to_thread(host.get_mutations, bid) for bid in bids]
        store.engine.stop()
        try:
            found.append(await asyncio.to_thread(host.get_mutations, _call_of(MEMBER)))
        finally:
            store.engine.start()
            await caught_up(store.client)

    assert found == [[]] * 4
