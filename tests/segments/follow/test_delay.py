"""How long an opt-out takes to a pod: the publisher's interval, the poll, and the time to apply."""

import asyncio
import hashlib
import time

from prometheus_client import CollectorRegistry

from segments.follow.keep_following import keep_following
from segments.model.identity import Id, IdentifierKind
from segments.model.record import Change, OptOutAction
from segments.projection.opt_outs import record_opt_out
from segments.publish.keep_publishing import KeepPublishing, PublishMetrics
from segments.publish.options import PublishOptions
from segments.runtime.follow_status import FollowEvent
from segments.store.reader import read_meta, read_records
from segments.store.writer import Writer
from tests.edge.small_store import eventually
from tests.segments.follow.conftest import Link
from tests.segments.ingest.deliveries import ids_of
from tests.segments.upkeep.histories import HASHES

EVERY_S, PUBLISHER_POLL_S, POLL_S = 1.0, 1.0, 0.5
WORK_S = 5.0
"""To write a file, to read it and to apply it, on a busy machine; milliseconds on another."""
CHANGED = 10_000
APPLIED_S = 1.0
"""In a small store, whose buckets are few, 0.02: see docs/benchmarks.md for a large one."""


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


async def test_ten_thousand_changed_persons_are_in_force_within_a_second_of_the_poll(
    link: Link,
) -> None:
    await link.history.happen_all(files=1)
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    await follower.look()
    people = ids_of([hashlib.sha256(b"%d" % number).hexdigest() for number in range(CHANGED)])
    writer = Writer(link.history.redis, await read_meta(link.history.redis))
    await writer.merge(people, [Change(1, is_add=True)])
    await publisher.step()

    began_s = time.monotonic()
    await follower.look()
    took_s = time.monotonic() - began_s

    assert follower.counts[FollowEvent.INCREMENT] == 1
    assert await link.followed() == await link.history.dump()
    assert took_s <= APPLIED_S
