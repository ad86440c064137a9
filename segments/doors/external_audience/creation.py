"""
The creation of external audiences, which continues after the answer to its request.

A creation succeeds once its base connection can be listed; files may come later. After the
process's death, the operation's next request resumes it.
"""

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from segments.doors.external_audience.source_files import list_files
from segments.doors.external_audience.spec import details_of
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.ledger.database.engine import LedgerAway, reading
from segments.ledger.external_audience import audiences as external_audiences
from segments.ledger.external_audience import base_connections
from segments.ledger.external_audience.audiences import ExternalAudience
from segments.model.quota import OverQuota
from segments.model.refusal import NotFound

_log = logging.getLogger(__name__)

CLOSE_WITHIN_S = 5.0


class Creations:
    """The creations in progress in this process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def go_on(self, external: ExternalAudience) -> None:
        """Create an audience that is `PROCESSING`, unless this process already does."""
        if external.id not in self._tasks:
            task = asyncio.create_task(self._create(external))
            self._tasks[external.id] = task
            task.add_done_callback(lambda _: self._tasks.pop(external.id))

    async def close(self) -> None:
        """Wait for creations in progress; a later request resumes slow ones."""
        tasks = list(self._tasks.values())
        if tasks:
            _, slow = await asyncio.wait(tasks, timeout=CLOSE_WITHIN_S)
            for task in slow:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _create(self, external: ExternalAudience) -> None:
        ledger = self._services.ledger
        try:
            try:
                async with reading(ledger) as conn:
                    connection = await base_connections.connection(conn, external.connection_id)
                await list_files(connection, details_of(external).source)
            except (NotFound, Problem) as error:
                why = error.detail if isinstance(error, Problem) else str(error)
                async with ledger.begin() as conn:
                    await external_audiences.fail(conn, external.id, why)
                return
            try:
                async with ledger.begin() as conn:
                    now_s = self._services.now_s()
                    await external_audiences.succeed(conn, external.id, now_s=now_s)
            except OverQuota as over:
                async with ledger.begin() as conn:
                    await external_audiences.fail(conn, external.id, str(over))
                return
        except (SQLAlchemyError, LedgerAway, OSError) as error:
            # The audience stays PROCESSING; the next request for its operation retries.
            _log.warning("creation of an external audience: %s", type(error).__name__)
            return
        await self._services.publish_catalog()
