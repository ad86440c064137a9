"""How long a no takes to a pod: the publisher's interval, the poll, and the time to apply."""

import asyncio
import time

from prometheus_client import CollectorRegistry

from segments.follow.keep_following import keep_following
from segments.model.identity import Id, IdentifierKind
from segments.model.record import OptOutAction
from segments.projection.opt_outs import record_opt_out
from segments.publish.keep_publishing import KeepPublishing, PublishMetrics
from segments.publish.options import PublishOptions
from segments.store.reader import read_meta, read_records
from tests.edge.small_store import eventually
from tests.segments.follow.conftest import Link
from tests.segments.ingest.deliveries import ids_of
from tests.segments.upkeep.histories import HASHES

EVERY_S, PUBLISHER_POLL_S, POLL_S = 1.0, 1.0, 0.5
WORK_S = 5.0
"""To write a file, to read it and to apply it, on a busy machine; milliseconds on another."""


async def test_no_is_in_force_after_both_intervals_though_changes_wait(link: Link) -> None:
    await link.history.happen_all(files=1)
    publisher = link.publisher(options=PublishOptions(EVERY_S, changes_every_s=600))
    follower, stopping = link.follower(), asyncio.Event()
    publishing = KeepPublishing(publisher, PublishMetrics(CollectorRegistry()))
    running = [
        asyncio.create_task(publishing.run(stopping)),
        asyncio.create_task(keep_following(follower, POLL_S, stopping)),
    ]
    await eventually(lambda: follower.state is not None)
    meta = await read_meta(link.pod)
    delays_s = []
    for person in ids_of(HASHES[:3]):
        ids = [(IdentifierKind.EMAIL, person)]
        history = link.history
        await record_opt_out(history.ledger, history.redis, OptOutAction.ERASURE, ids, None)
        said_s = time.monotonic()

        async def is_in_force(person: Id = person) -> bool:
            [record] = await read_records(link.pod, meta, [person])
            return any(said.action is OptOutAction.ERASURE for said in record.opt_outs)

        await eventually(is_in_force)
        delays_s.append(time.monotonic() - said_s)
    stopping.set()
    await asyncio.gather(*running)

    assert max(delays_s) <= EVERY_S + PUBLISHER_POLL_S + POLL_S + WORK_S
