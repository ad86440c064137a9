"""
The documented topology on one machine, every part of it real. Read `Topology` first.

    partners and hosts  ->  nginx  ->  two bid listeners, two replicas of the REST doors
    partners            ->  the SFTP server, and the bucket by URLs that the doors sign
    store               a master, its replica, three Sentinels, users by `deploy/redis.acl`
    ledger, blobs       PostgreSQL, a bucket
    loader              one
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import boto3

from loadtest.ports import free_ports
from segments.settings import Settings
from tests.cluster import in_thread
from tests.commands import run_command
from tests.deploy.process import Process
from tests.deploy.servers import Deployed, nginx_conf, running_nginx, with_replicas
from tests.postgres import Postgres
from tests.s3 import s3_server
from tests.sftp import Door
from tests.tls import TestCa

BUCKET = "deliveries"
_COMMAND_WITHIN_S = 300


class Topology:
    """
    All of it. It is there between `running`'s beginning and end.

    Args:
        folder: For the files of all.
        expected_ids: Persons that the store is laid out for.
    """

    def __init__(self, folder: Path, expected_ids: int) -> None:
        self.folder = folder
        self.ca = TestCa.in_folder(folder / "ca")
        self.store = Deployed("redis")
        self.postgres = Postgres()
        self._nginx_ports = free_ports(3)
        self.bid_port, self.doors_port, _ = self._nginx_ports
        [self._s3_port] = free_ports(1)
        self._bucket = ExitStack()
        self.login_of_bucket = {
            "AWS_ACCESS_KEY_ID": "AKID",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._s3_port}",
            "AWS_ALLOW_HTTP": "true",
        }
        self.environment = {
            **_none_of_ours(),
            **self.login_of_bucket,
            "SEGMENTS_DATA_DIR": str(folder / "operator"),
            "SEGMENTS_REDIS_URL": self.store.url_of("writers"),
            "SEGMENTS_BLOB_URL": f"s3://{BUCKET}/segments",
            "SEGMENTS_EXPECTED_IDS": str(expected_ids),
        }
        self.loader: Process
        self.doors: Sequence[Process]
        self.listeners: Sequence[Process]
        self.sftp: Door

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Topology"]:
        """Run all of it for a while."""
        async with AsyncExitStack() as ending:
            ending.callback(self.store.remove)
            await in_thread(self.store.start)
            ending.callback(self.postgres.remove)
            await in_thread(self.postgres.start)
            database = await in_thread(self.postgres.new_database)
            self.environment["SEGMENTS_LEDGER_URL"] = self.postgres.tcp_url(database)
            ending.callback(self.lose_bucket)
            await in_thread(self.find_bucket)
            await in_thread(self._make_bucket)
            self._furnish()
            for process in (self.loader, *self.doors, *self.listeners):
                ending.push_async_callback(process.stop)
                await process.start()
            await self.sftp.start()
            ending.push_async_callback(self.sftp.stop)
            folder = self.folder / "nginx"
            folder.mkdir()
            text = nginx_conf(folder, self.ca, self._nginx_ports)
            text = with_replicas(text, self._listeners_ports, self._doors_ports)
            ending.enter_context(running_nginx(folder, text))
            yield self
        for log in (self.sftp.log, *(each.log for each in self.processes)):
            assert "Traceback" not in log.read_text(), log.read_text()

    @property
    def processes(self) -> Sequence[Process]:
        """Ours, without the SFTP server."""
        return (self.loader, *self.doors, *self.listeners)

    @property
    def settings(self) -> Settings:
        """The settings of the operator's commands."""
        return Settings(
            data_dir=self.folder / "operator",
            redis_url=self.environment["SEGMENTS_REDIS_URL"],
            ledger_url=self.environment["SEGMENTS_LEDGER_URL"],
            blob_url=self.environment["SEGMENTS_BLOB_URL"],
            expected_ids=int(self.environment["SEGMENTS_EXPECTED_IDS"]),
        )

    def lose_bucket(self) -> None:
        """End the bucket's server."""
        self._bucket.close()

    def find_bucket(self) -> None:
        """Start the bucket's server; it has what it had."""
        self._bucket.enter_context(s3_server(self._s3_port))

    async def run(self, *command: str, stdin: bytes = b"") -> str:
        """Run a command of `rtb-segments` as an operator, and return what it said."""
        done = await in_thread(
            partial(
                run_command, *command, env=self.environment, cwd=self.folder, stdin=stdin,
                within_s=_COMMAND_WITHIN_S,
            )
        )  # fmt: skip
        said = str(done.stdout + done.stderr)
        assert done.returncode == 0, said
        return said

    def _make_bucket(self) -> None:
        boto3.client(
            "s3", endpoint_url=self.login_of_bucket["AWS_ENDPOINT_URL"], region_name="us-east-1",
            aws_access_key_id="AKID", aws_secret_access_key="secret",
        ).create_bucket(Bucket=BUCKET)  # fmt: skip

    def _furnish(self) -> None:
        """Make the hosts; those of the bid listeners know of the store alone."""
        port, *admin_ports = free_ports(5)
        self.loader = Process(
            self.folder / "loader", ("loader",), port,
            {**self.environment, "SEGMENTS_LOADER_PORT": str(port)},
        )  # fmt: skip
        self._doors_ports, self._listeners_ports = free_ports(2), free_ports(2)
        self.doors = [
            Process(
                self.folder / f"api-{port}", ("api",), admin_port,
                {
                    **self.environment,
                    "SEGMENTS_API_HOST": "127.0.0.1",
                    "SEGMENTS_API_PORT": str(port),
                    "SEGMENTS_API_ADMIN_PORT": str(admin_port),
                    "SEGMENTS_TRUSTED_PROXIES": '["127.0.0.0/8"]',
                },
            )
            for port, admin_port in zip(self._doors_ports, admin_ports[:2], strict=True)
        ]  # fmt: skip
        self.listeners = [
            Process(
                self.folder / f"serve-{port}", ("serve",), admin_port,
                {
                    **_none_of_ours(),
                    "RTB_REDIS_URL": self.store.url_of("bids"),
                    "RTB_HOST": "127.0.0.1",
                    "RTB_PORT": str(port),
                    "RTB_ADMIN_PORT": str(admin_port),
                    # Longer than production's: all of it shares the machine.
                    "RTB_DEADLINE_CAP_MS": "500",
                    "RTB_TMAX_SHARE": "1",
                },
            )
            for port, admin_port in zip(self._listeners_ports, admin_ports[2:], strict=True)
        ]  # fmt: skip
        host = self.folder / "sftp"
        host.mkdir()
        [port] = free_ports(1)
        settings = {**self.environment, "SEGMENTS_DATA_DIR": str(host / "data")}
        self.sftp = Door(host, **settings, SEGMENTS_SFTP_PORT=str(port))


def _none_of_ours() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SEGMENTS_", "RTB_"))
    }
