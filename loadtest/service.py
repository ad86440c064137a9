"""
The load test's own service: `rtb-segments up` as an operator runs it, seeded.

Observed and controlled only from outside: by health, metrics, signals and the kernel's view.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from loadtest.population import Population
from loadtest.ports import free_ports
from loadtest.processes import children_of, workers_of
from loadtest.running import Running
from loadtest.seed import seed
from loadtest.servers import HOST
from segments.settings import Settings
from segments.store.reader import read_version
from segments.store.servers.connection import connect

_DESCRIPTORS = 256


class Service(Running):
    """
    The running service.

    Args:
        directory: For its data; a short path.
        ids: Persons that the store is laid out for.
        workers: Of the bid listener.
        variables: Additional settings of the bid listener.
    """

    def __init__(
        self, directory: Path, ids: int, workers: int, variables: Mapping[str, str] | None = None
    ) -> None:
        self.workers = workers
        self.settings = Settings(
            data_dir=directory, redis_url=None, ledger_url=None, blob_url=None, expected_ids=ids
        )
        self.port, admin_port, self.api_port, self.sftp_port = free_ports(4)
        env = {name: value for name, value in os.environ.items() if "RTB_" not in name}
        env |= {
            "SEGMENTS_DATA_DIR": str(directory),
            "SEGMENTS_REDIS_URL": "",
            "SEGMENTS_EXPECTED_IDS": str(ids),
            "SEGMENTS_API_HOST": HOST,
            "SEGMENTS_API_PORT": str(self.api_port),
            "SEGMENTS_UP_CONSOLE": "no",
            "SEGMENTS_SFTP_HOST": HOST,
            "SEGMENTS_SFTP_PORT": str(self.sftp_port),
            "RTB_HOST": HOST,
            "RTB_PORT": str(self.port),
            "RTB_ADMIN_PORT": str(admin_port),
            "RTB_STOP_ACCEPTING_AFTER_S": "0",
            "RTB_WORKERS": str(workers),
            **(variables or {}),
        }
        # A reachable limit, set in the shell.
        limited = ["sh", "-c", f'ulimit -n {_DESCRIPTORS}; exec "$@"', "up"]
        argv = [*limited, sys.executable, "-m", "segments", "up"]
        super().__init__(argv, env, directory / "up.log", admin_port)

    async def seed(self, population: Population, say: Callable[[str], None]) -> None:
        """
        Seed the service, and wait until every worker has the catalog.

        Raises:
            NotSettled: The service was not ready or up to date in time.
            loadtest.seed.SeedFailed: See there.
        """
        await self.until("the service is ready", self.is_ready)
        await seed(population, self.settings, say)
        async with connect(self.settings.store_url) as redis:
            version = await read_version(redis)

        async def is_read() -> bool:
            return (await self.metrics())["rtb_catalog_version"] == version

        await self.until("every worker has the catalog", is_read)

    @property
    def places(self) -> int:
        """Connections beyond its workers' descriptors."""
        return _DESCRIPTORS * self.workers

    def hang_up(self, signal_number: int) -> None:
        """Send a signal to the service as a whole."""
        self._process.send_signal(signal_number)

    def worker_pids(self) -> set[int]:
        """Return the bid listener's workers."""
        listeners = children_of(self._process.pid, running="rtb.__main__")
        return {pid for listener in listeners for pid in workers_of(listener)}

    async def bid_pids(self) -> frozenset[int]:
        """Return the processes that bids need: the listener's, and the store."""
        async with connect(self.settings.store_url) as redis:
            pids = {int((await redis.info("server"))["process_id"])}
        left = children_of(self._process.pid, running="rtb.__main__")
        while left:
            pids.add(pid := left.pop())
            left += children_of(pid)
        return frozenset(pids)
