"""
Examines everything that the service depends on, and names the cure for each fault.

Checks change nothing. A check without its prerequisite (a store, say) is left out, as the finding
above says.

Work goes on meanwhile, so a check reads the ledger before the store, and waits for the store to
catch up.
"""

import time
from collections.abc import AsyncGenerator

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.ledger import accounts, audiences, jobs
from segments.ledger.database.engine import LedgerUnusable, existing_ledger, reading
from segments.ledger.ledger_id import standing
from segments.ledger.processes import UNSEEN_AFTER_S, processes
from segments.projection.ills import Ills
from segments.upkeep.doctor.files import look_at_files
from segments.upkeep.doctor.findings import Deployment, Finding, Grade
from segments.upkeep.doctor.listener import look_as_listener
from segments.upkeep.doctor.store import look_at_store

_NAMED = 10


async def examine(deployment: Deployment) -> AsyncGenerator[Finding]:
    """
    Yield the findings, in the order in which to mend them.

    Close the generator (`contextlib.aclosing`) if the consumer may fail.
    """
    try:
        async with existing_ledger(deployment.ledger_url) as ledger:
            async with reading(ledger) as conn:
                ledger_id = (await standing(conn)).ledger_id
            yield Finding(Grade.GOOD, f"ledger: {ledger_id} opens, its tables are up to date")
            yield await _shared_ids(ledger)
            yield await _held(ledger)
            yield await _running(ledger)
            yield await look_at_files(deployment, ledger)
            async for finding in look_at_store(deployment, ledger):
                yield finding
            yield await look_as_listener(deployment.bids_store_url)
            for what in await _ills(deployment, ledger):
                yield Finding(Grade.BAD, what)
    except LedgerUnusable as error:
        yield Finding(Grade.BAD, str(error))


async def _ills(deployment: Deployment, ledger: AsyncEngine) -> list[str]:
    """Return the faults of a deployment that answers."""
    async with reading(ledger) as conn:
        has_files = bool(await jobs.jobs(conn, 1))
    blobs = Blobs.looked_at(deployment.blobs_at, deployment.reserve_bytes)
    look = Ills(ledger, blobs, deployment.data_dir, deployment.reserve_bytes, has_files)
    return await look()


async def _shared_ids(ledger: AsyncEngine) -> Finding:
    """Look for segment ids that we gave before `FIRST_GIVEN_ID` and that a partner also uses."""
    async with reading(ledger) as conn:
        shared = await audiences.shared_ids(conn)
    if not shared:
        return Finding(Grade.GOOD, "segment ids: none is both given and a partner's own")
    named = ", ".join(f"{partner_id} {segment_id}" for partner_id, segment_id in shared[:_NAMED])
    more = f" and {len(shared) - _NAMED} more" if len(shared) > _NAMED else ""
    return Finding(
        Grade.POOR,
        "segment ids: given by us and used by the partner as its own, so both are one audience:"
        f" {named}{more}; let the partner use another id for its segment",
    )


async def _held(ledger: AsyncEngine) -> Finding:
    """Look for held jobs, and count the jobs that wait for them."""
    said = []
    async with reading(ledger) as conn:
        waiting = await jobs.held(conn)
        behind = await jobs.count_behind_held(conn)
        for job in waiting[:_NAMED]:
            partner = await accounts.account(conn, job.partner_id)
            count = behind.get(job.id, 0)
            said.append(f"job {job.id} of {partner.public_id} ({count} wait behind it)")
    if not waiting:
        return Finding(Grade.GOOD, "jobs: none is held")
    more = f" and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
    return Finding(
        Grade.POOR,
        f"jobs: held until an operator looks: {', '.join(said)}{more}; see `rtb-segments status"
        " JOB`, then `rtb-segments release JOB`, or `release --refuse JOB`",
    )


async def _running(ledger: AsyncEngine) -> Finding:
    """Look for processes that have ceased to renew their row, and name the others."""
    now_s = time.time()
    async with reading(ledger) as conn:
        found = await processes(conn)
    unseen = [each for each in found if each.is_unseen(now_s)]
    if unseen:
        said = ", ".join(
            f"{each.kind} on {each.host} (process {each.pid}, for {now_s - each.seen_at_s:.0f} s)"
            for each in unseen[:_NAMED]
        )
        return Finding(
            Grade.POOR,
            f"processes: not seen for over {UNSEEN_AFTER_S} s: {said}; start it again, or look at"
            " its log. One that you have taken away is forgotten after an hour",
        )
    if not found:
        return Finding(Grade.GOOD, "processes: none of the control plane runs")
    kinds = sorted({f"{each.kind} {each.version}" for each in found})
    return Finding(Grade.GOOD, f"processes: {len(found)} run: {', '.join(kinds)}")
