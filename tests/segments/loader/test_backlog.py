"""The metrics of the work that waits, which the alerts look at."""

from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.privacy.scrubs import last_erasure, seen_to
from segments.loader.backlog import Backlog
from segments.model.identity import IdentifierKind
from segments.model.record import OptOutAction
from segments.projection.opt_outs import record_opt_out
from segments.store.servers.connection import connect
from segments.store.servers.masters import memory
from tests.engines import Engine
from tests.segments.ingest.deliveries import email_hashes, ids_of
from tests.segments.ledger.some_jobs import NOW_S, added_partners, submit

WITHIN_S = 3600.0


def said(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


async def test_jobs_are_counted_by_the_ledger_whoever_carries_them(ledger: AsyncEngine) -> None:
    [partner, _] = await added_partners(ledger)
    await submit(ledger, partner)
    registry = CollectorRegistry()

    await Backlog(ledger, registry, lambda: NOW_S + 90, WITHIN_S).look()

    assert said(registry, "segments_ledger_jobs", state="queued") == 1
    assert said(registry, "segments_ledger_jobs", state="held") == 0
    assert said(registry, "segments_jobs_oldest_seconds") == 90


async def test_scrub_is_overdue_after_its_deadline_and_no_longer_once_it_is_done(
    ledger: AsyncEngine, valkey: Engine
) -> None:
    [partner, _] = await added_partners(ledger)
    job = await submit(ledger, partner)
    registry = CollectorRegistry()
    now_s = [NOW_S]
    backlog = Backlog(ledger, registry, lambda: now_s[0], WITHIN_S)
    await backlog.look()
    before = said(registry, "segments_scrub_seconds_left")
    ids = [(IdentifierKind.EMAIL, id_) for id_ in ids_of(email_hashes(1))]
    async with connect(valkey.url) as redis:
        await record_opt_out(ledger, redis, OptOutAction.ERASURE, ids)
    async with ledger.connect() as conn:
        until_seq = await last_erasure(conn)
    now_s[0] += 10_000_000_000
    await backlog.look()
    overdue = said(registry, "segments_scrub_seconds_left")
    async with ledger.begin() as conn:
        await seen_to(conn, job, until_seq, now_s[0])
    await backlog.look()

    assert before == WITHIN_S
    assert overdue is not None
    assert overdue < 0
    assert said(registry, "segments_scrub_seconds_left") == WITHIN_S


async def test_memory_of_a_store_is_told_with_its_limit(valkey: Engine) -> None:
    async with connect(valkey.url) as client:
        without = await memory(client)
        await client.config_set("maxmemory", 1 << 30)
        limited = await memory(client)
        await client.config_set("maxmemory", 0)

    assert without.used_bytes > 0
    assert without.limit_bytes == 0
    assert limited.limit_bytes == 1 << 30
