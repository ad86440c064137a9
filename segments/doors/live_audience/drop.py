"""
The drop: watches the partners' folders, and turns their files into jobs.

    look     <name>.json   ->  a delivery in the ledger, and <name>.status: accepted or refused
    fetch    its data file ->  a blob and a job; or, after a while, "File not found"
    answer   its job ended ->  <name>.status: the result
    sweep    deletes unused files: see `leftovers`

The four loops keep no state in memory, so they resume after a kill at any point: a file leaves the
partner's reach first and is deleted last, and the steps in between can be repeated. A delivery
still has a single transaction id, job and final answer.

The drop runs inside `rtb-segments sftp`, even beside an operator's own server. Several processes on
a folder take turns (`folder_lock`); `retries` rules repeated files.

An error with a file is logged by partner and kind, never by content, and delays no other.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.doors.live_audience import retries, rules
from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.faults import Faults
from segments.doors.live_audience.file_names import METADATA, answered_name
from segments.doors.live_audience.folder import DropFolder, Folder, read_taken
from segments.doors.live_audience.folder_lock import folder_lock
from segments.doors.live_audience.leftovers import drop_refused, sweep
from segments.doors.live_audience.metadata import MAX_METADATA_BYTES, Metadata
from segments.doors.live_audience.metrics import DeliveryMetrics
from segments.doors.live_audience.options import DropOptions
from segments.doors.live_audience.status import accepted, refusal, status_of
from segments.files.blobs import Blobs
from segments.files.chunks import file_chunks, in_thread
from segments.ingest.accept import parties_of
from segments.ingest.read import delivered_blocks
from segments.ledger import accounts, callbacks, jobs
from segments.ledger.database.engine import reading
from segments.ledger.live_audience import deliveries
from segments.ledger.live_audience.deliveries import Delivery
from segments.model.stop_reason import OURS, Stopped, StopReason
from segments.projection.causes import away_by
from segments.runtime.pauses import wait_or_stop

_log = logging.getLogger(__name__)

EVERY_S = 1.0
_SWEEP_EVERY_S = 3600.0
_DATA = ".data"


class Drop:
    """Watches the drop folder."""

    def __init__(
        self,
        options: DropOptions,
        ledger: AsyncEngine,
        blobs: Blobs,
        folders: DropFolder,
        now_s: Callable[[], float] = time.time,
        *,
        metrics: DeliveryMetrics | None = None,
        is_refused: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_refused`: intake is suspended; files stay in place."""
        self._metrics = metrics or DeliveryMetrics(CollectorRegistry())
        self._options = options
        self._ledger = ledger
        self._blobs = blobs
        self._folders = folders
        self._now_s = now_s
        self._faults = Faults(_log, now_s)
        self._is_refused = is_refused
        self._compared: set[tuple[int, int]] = set()
        # Kept until the job stores it; a restart before that loses the suffix.
        self._number_to_found: dict[int, str] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Watch until stopped; wait while another process watches the folder."""
        async with folder_lock(self._folders.path, stopping) as is_ours:
            if not is_ours:
                return
            async with asyncio.TaskGroup() as group:
                # Separately, so that large files delay no first answer.
                for step in (self.look, self.fetch, self.answer):
                    group.create_task(self._repeat(step, stopping, EVERY_S))
                group.create_task(self._repeat(self.sweep, stopping, _SWEEP_EVERY_S))

    async def turn(self) -> None:
        """Run each loop once."""
        for step in (self.look, self.fetch, self.answer):
            await step()

    async def sweep(self) -> None:
        """Delete unused files."""
        sweep(self._folders, self._options, self._metrics, self._now_s())

    # -- look: metadata files --------------------------------------------------

    async def look(self) -> None:
        """Take every complete metadata file, and answer it."""
        for partner_id, folder in self._folders.all():
            await self._faults.guarded(
                f"folder of {partner_id!r}", self._look_into(partner_id, folder)
            )

    async def _look_into(self, partner_id: str, folder: Folder) -> None:
        for file_name in folder.names():
            name = answered_name(file_name)
            # No `await` between check and rename: our SFTP server, in the same loop,
            # could open the file.
            if name is not None and folder.is_complete(
                file_name, self._now_s(), self._options.quiet_s
            ):
                folder.take(file_name, f"{name}{METADATA}")
                folder.withdraw(name)
        for taken_name in folder.all_taken():
            name = answered_name(taken_name)
            path = folder.taken(taken_name)
            if name is not None and path is not None:
                receiving = self._receive(partner_id, folder, name, path)
                await self._faults.guarded(f"metadata of {partner_id!r}", receiving)

    async def _receive(self, partner_id: str, folder: Folder, name: str, path: Path) -> None:

        raw = read_taken(path, MAX_METADATA_BYTES)
        metadata, refused = rules.read(raw, partner_id)
        delivery, content = None, None
        if metadata is not None and refused is None:
            try:
                delivery = await self._record(partner_id, name, metadata)
            except Stopped as stopped:
                refused = stopped
            except Exception as error:
                if away_by(error) is not None:
                    raise
                _log.exception("metadata of %r", partner_id)
                refused = Stopped(StopReason.INTERNAL, type(error).__name__)

        if delivery is not None:
            same = await retries.done_before(self._ledger, delivery)
            assert metadata is not None, "it was recorded"
            content = accepted(delivery.transaction_id, delivery.metadata, metadata.order())
            if same is not None:
                content = status_of(same)
        else:
            assert refused is not None, "it is one or the other"
            _log.info("metadata of %r refused: %s", partner_id, refused)
            await self._note_refusal(partner_id, name)
            if refused.reason not in OURS:
                folder.mark_refused(rules.said_name(raw, name))
            content = refusal(refused)
        folder.answer(name, content)
        self._metrics.first(None if refused is None else refused.reason)
        # Only a valid URL, and only of the folder's own partner.
        if metadata is not None and metadata.partner_id == partner_id:
            async with self._ledger.begin() as conn:
                transaction_id = None if delivery is None else delivery.transaction_id
                await self._call_back(conn, metadata.callback_url, transaction_id, content)
        folder.drop(path.name)
        if refused is not None and not self._options.refused_file_s:
            drop_refused(folder, self._now_s())

    async def _note_refusal(self, partner_id: str, name: str) -> None:
        async with self._ledger.begin() as conn:
            partner = await accounts.find_partner(conn, partner_id)
            if partner is not None:
                await deliveries.refuse(
                    conn,
                    partner,
                    name,
                    transaction_id=jobs.new_transaction_id(),
                    now_s=self._now_s(),
                )

    async def _record(self, partner_id: str, name: str, metadata: Metadata) -> Delivery:
        async with self._ledger.begin() as conn:
            parties = await parties_of(conn, metadata.partner_id, metadata.sub_id)
            delivery = await deliveries.receive(
                conn,
                parties.partner,
                name,
                metadata.as_kept(),
                transaction_id=jobs.new_transaction_id(),
                now_s=self._now_s(),
            )
        _log.info("delivery %s of %r accepted", delivery.transaction_id, partner_id)
        return delivery

    # -- fetch: data files -----------------------------------------------------

    async def fetch(self) -> None:
        """Make a job of each delivery whose data file is complete."""
        async with reading(self._ledger) as conn:
            waiting = await deliveries.waiting(conn)
        self._drop_leftovers({f"{delivery.transaction_id}{_DATA}" for delivery, _ in waiting})
        numbers = {delivery.id for delivery, _ in waiting}
        self._compared = {pair for pair in self._compared if pair[0] in numbers}
        self._number_to_found = {
            number: name for number, name in self._number_to_found.items() if number in numbers
        }
        for delivery, partner_id in waiting:
            fetching = self._fetch_for(delivery, partner_id)
            await self._faults.guarded(f"delivery {delivery.transaction_id}", fetching)

    async def _fetch_for(self, delivery: Delivery, partner_id: str) -> None:
        folder = self._folders.of(partner_id)
        metadata = Metadata.model_validate(delivery.metadata)
        taken_name = f"{delivery.transaction_id}{_DATA}"
        path = folder.taken(taken_name)
        if path is None and not self._take_data(folder, delivery, metadata.file.name, taken_name):
            same = await retries.refused_before(self._ledger, self._blobs, delivery, self._compared)
            if same is not None:
                blob = await asyncio.to_thread(self._blobs.get, same.blob)
                await self._make_job(folder, delivery, metadata, in_thread(delivered_blocks(blob)))
            elif self._has_waited(folder, delivery, metadata.file.name):
                await self._not_found(folder, delivery)
            return
        path = folder.taken(taken_name)
        assert path is not None, "it was taken just now"
        whose = await retries.whose(self._ledger, delivery, path)
        if whose is None:
            _log.info("delivery %s: a copy of an earlier file", delivery.transaction_id)
            folder.drop(taken_name)
            return
        if whose.id != delivery.id:
            folder.hand_over(taken_name, f"{whose.transaction_id}{_DATA}")
            if delivery.id in self._number_to_found:
                self._number_to_found[whose.id] = self._number_to_found.pop(delivery.id)
            return
        content = in_thread(file_chunks(path))
        if not await self._make_job(folder, delivery, metadata, content):
            folder.give_back(taken_name, metadata.file.name)
            folder.mark_refused(metadata.file.name)
        folder.drop(taken_name)

    async def _make_job(
        self,
        folder: Folder,
        delivery: Delivery,
        metadata: Metadata,
        content: AsyncIterable[bytes],
    ) -> bool:
        try:
            job = await accept(
                self._ledger,
                self._blobs,
                metadata,
                content,
                door=rules.DOOR,
                file_name=self._number_to_found.get(delivery.id, metadata.file.name),
                now_s=self._now_s(),
                transaction_id=delivery.transaction_id,
            )
        except Stopped as stopped:
            # The account was removed after its metadata were accepted.
            await self._refuse(folder, delivery, stopped)
            return False
        async with self._ledger.begin() as conn:
            await deliveries.taken(conn, delivery, job.id)
        _log.info("delivery %s is job %d", delivery.transaction_id, job.id)
        return True

    def _drop_leftovers(self, needed: set[str]) -> None:
        for _, folder in self._folders.all():
            for taken_name in folder.all_taken():
                if taken_name.endswith(_DATA) and taken_name not in needed:
                    folder.drop(taken_name)

    def _take_data(
        self, folder: Folder, delivery: Delivery, file_name: str, taken_name: str
    ) -> bool:
        for name in rules.data_files(file_name, folder.names()):
            if folder.is_complete(name, self._now_s(), self._options.quiet_s):
                folder.take(name, taken_name)
                self._number_to_found[delivery.id] = name
                return True
        return False

    def _has_waited(self, folder: Folder, delivery: Delivery, file_name: str) -> bool:
        since_s = delivery.received_at_s
        for name in rules.data_files(file_name, folder.names()):
            with suppress(OSError):
                since_s = max(since_s, folder.stat(name).st_ctime)
        return folder.ages.age_s(delivery.id, since_s, self._now_s()) >= self._options.wait_s

    async def _not_found(self, folder: Folder, delivery: Delivery) -> None:
        same = await retries.done_before(self._ledger, delivery)
        if same is not None:
            # The metadata came again without a file: nothing is missing.
            await self._end(folder, delivery, status_of(same))
            self._metrics.last(None)
            return
        _log.info("delivery %s: its data file never came", delivery.transaction_id)
        name = delivery.metadata["file"]["name"]
        missing = Stopped(StopReason.FILE_NOT_FOUND, f"no file {name} came, nor as .gz or .zip")
        folder.mark_refused(name)  # the file may still come
        await self._refuse(folder, delivery, missing)

    # -- answer: jobs that have ended ------------------------------------------

    async def answer(self) -> None:
        """Answer each delivery whose job has ended."""
        async with reading(self._ledger) as conn:
            finished = await deliveries.finished(conn)
        for delivery, partner_id in finished:
            answering = self._answer(delivery, partner_id)
            await self._faults.guarded(f"answer to {delivery.transaction_id}", answering)

    async def _answer(self, delivery: Delivery, partner_id: str) -> None:
        assert delivery.job_id is not None, "it would wait for its data file otherwise"
        async with reading(self._ledger) as conn:
            job = await jobs.job(conn, delivery.job_id)
        assert job is not None, "jobs are never deleted"
        # The job may be of an earlier delivery of the file.
        content = status_of(replace(job, transaction_id=delivery.transaction_id))
        await self._end(self._folders.of(partner_id), delivery, content)
        self._metrics.last(job.stop)

    async def _refuse(self, folder: Folder, delivery: Delivery, stopped: Stopped) -> None:
        await self._end(folder, delivery, refusal(stopped))
        self._metrics.last(stopped.reason)

    async def _end(self, folder: Folder, delivery: Delivery, content: bytes) -> None:
        """
        Give the final answer; only then does the ledger forget the delivery.

        In the folder, only the latest metadata file of a name is answered.
        """
        async with reading(self._ledger) as conn:
            is_last = await deliveries.is_last(conn, delivery)
        if is_last:
            folder.answer(delivery.name, content)
        async with self._ledger.begin() as conn:
            await deliveries.answered(conn, delivery, self._now_s())
            await self._call_back(
                conn, delivery.metadata.get("callback_url"), delivery.transaction_id, content
            )

    async def _call_back(
        self, conn: AsyncConnection, url: str | None, transaction_id: str | None, content: bytes
    ) -> None:
        if url is not None:
            await callbacks.add(conn, transaction_id, url, content.decode(), now_s=self._now_s())

    # --------------------------------------------------------------------------

    async def _repeat(
        self, step: Callable[[], Awaitable[None]], stopping: asyncio.Event, every_s: float
    ) -> None:
        while not stopping.is_set():
            if not self._is_refused():
                await self._faults.guarded("the drop", step())
            await wait_or_stop(stopping, every_s)
