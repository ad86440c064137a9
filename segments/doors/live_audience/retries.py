"""
Deliveries that a partner repeats: metadata, the data file, or both.

Metadata apply to the file with their digest. So a copy of an earlier file, under the same daily
name, is not taken for today's; metadata sent again without a file get the status of their first
delivery. Corrected metadata find their file in the folder or with the refused job.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.metadata import Metadata
from segments.files.blobs import Blobs
from segments.files.chunks import READ_BYTES
from segments.ingest.ids_only import has_original
from segments.ingest.read import is_of_digest
from segments.ledger import jobs
from segments.ledger.database.engine import reading
from segments.ledger.live_audience import deliveries
from segments.ledger.live_audience.deliveries import Delivery
from segments.model.job import Job, JobState, fingerprint
from segments.model.stop_reason import OF_METADATA, Stopped

_REFUSED_LOOKED_AT = 100
"""How many of a partner's refused files are compared with a delivery's digest."""

_ALGORITHMS = ("md5", "sha1", "sha256")


async def done_before(ledger: AsyncEngine, delivery: Delivery) -> Job | None:
    """
    Return an earlier job that has done a delivery's work, if any.

    Not if a later job was to change the same segments.
    """
    async with reading(ledger) as conn:
        same = await deliveries.same_before(conn, delivery)
        if same is None or same.job_id is None:
            return None
        job = await jobs.job(conn, same.job_id)
        if job is None or job.state is not JobState.DONE:
            return None
        if await jobs.is_any_later_of_segments(conn, job):
            return None
    return replace(job, transaction_id=same.transaction_id)


async def whose(ledger: AsyncEngine, delivery: Delivery, path: Path) -> Delivery | None:
    """
    Return the delivery that a data file belongs to.

    `delivery` waits for a file of that name.

    Returns:
        The delivery whose digest matches, of those that wait for that name. If no digest matches,
        `delivery` itself, whose job then fails; `None` if the file is a copy of a file that was
        processed under other metadata.
    """
    async with reading(ledger) as conn:
        waiting = [each for each, _ in await deliveries.waiting(conn)]
        former = await deliveries.with_jobs(conn, delivery.account_id, _named(delivery))
    others = [each for each in waiting if each.id != delivery.id and _is_alike(each, delivery)]
    former = [each for each in former if each.metadata != delivery.metadata]
    if not others and not former:
        return delivery  # the usual case: one read of the file
    digests = await asyncio.to_thread(_digests, path)
    if _is_of(delivery, digests):
        return delivery
    for other in others:
        if _is_of(other, digests):
            return other
    for each in former:
        assert each.job_id is not None, "those were asked for"
        async with reading(ledger) as conn:
            job = await jobs.job(conn, each.job_id)
        if job is not None and job.fingerprint == fingerprint(
            job.door, job.owner_id, each.metadata, digests["sha256"]
        ):
            return None
    return delivery


async def refused_before(
    ledger: AsyncEngine, blobs: Blobs, delivery: Delivery, compared: set[tuple[int, int]]
) -> Job | None:
    """
    Return a job, refused for its metadata, that keeps the file of a delivery.

    `delivery` has no data file; `compared` has the pairs of delivery and job that do not match.
    """
    async with reading(ledger) as conn:
        kept = await jobs.failed_with_files(conn, delivery.account_id, _REFUSED_LOOKED_AT)
    order = Metadata.model_validate(delivery.metadata).order()
    for job in kept:
        pair = (delivery.id, job.id)
        if pair in compared or job.stop not in OF_METADATA or not has_original(job):
            continue
        opened = partial(blobs.get, job.blob)
        with suppress(Stopped, FileNotFoundError):
            if await asyncio.to_thread(is_of_digest, order, opened):
                return job
        compared.add(pair)
    return None


def _named(delivery: Delivery) -> str:
    name: str = delivery.metadata["file"]["name"]
    return name


def _is_alike(one: Delivery, other: Delivery) -> bool:
    return one.account_id == other.account_id and _named(one) == _named(other)


def _digests(path: Path) -> dict[str, str]:
    hashing = {name: hashlib.new(name, usedforsecurity=False) for name in _ALGORITHMS}
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(READ_BYTES):
            for each in hashing.values():
                each.update(chunk)
    return {name: each.hexdigest() for name, each in hashing.items()}


def _is_of(delivery: Delivery, digests: Mapping[str, str]) -> bool:
    file = delivery.metadata["file"]
    return bool(digests.get(file["hash"]) == file["digest"].lower())
