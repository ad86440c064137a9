"""A master, its replica and three Sentinels that watch over them, all real."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.cluster import until_true
from tests.engines import Engine, binary_of, free_port, start_server

SERVICE = "segments"
DOWN_AFTER_MS = 800


class Watched:
    """Two servers under Sentinels."""

    sentinel_password: str | None = None
    """Of the Sentinels themselves."""

    def __init__(self, engine: str) -> None:
        self.servers = [self._server(engine) for _ in range(2)]
        self._engine = engine
        self._dir = Path(tempfile.mkdtemp(prefix="sen-"))
        self._ports = [free_port() for _ in range(3)]
        self._sentinels: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """Where the product finds them."""
        return f"redis+sentinel://{self.addresses}/{SERVICE}"

    @property
    def addresses(self) -> str:
        """Where the Sentinels are."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def start(self) -> None:
        """Start all, and wait until the Sentinels know each other and the replica."""
        master, replica = self.servers
        master.start()
        replica.start()
        with redis.Redis.from_url(replica.url) as client:
            client.replicaof("127.0.0.1", int(master.port))
        for n, port in enumerate(self._ports):
            file = self._dir / f"{n}.conf"
            file.write_text(
                f"bind 127.0.0.1\ndir {self._dir}\nlogfile {self._dir}/{n}.log\n"
                + self._configuration(port, master.port)
            )
            argv = [binary_of(self._engine), str(file), "--sentinel"]
            self._sentinels.append(start_server(argv))
        until_true(self._is_settled)

    def master(self) -> Engine:
        """Return whom the Sentinels name."""
        with self._sentinel(self._ports[0]) as client:
            _, port = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if int(server.port) == int(port))

    def remove(self) -> None:
        """End everything."""
        for sentinel in self._sentinels:
            sentinel.kill()
            sentinel.wait()
        for server in self.servers:
            server.remove()

    def _is_settled(self) -> bool:
        for port in self._ports:
            with self._sentinel(port) as client:
                known = client.sentinel_master(SERVICE)
            if known["num-slaves"] != 1 or known["num-other-sentinels"] != 2:
                return False
        return self.is_replica(self.servers[1])

    def is_replica(self, server: Engine) -> bool:
        """Whether a server follows its master."""
        with redis.Redis.from_url(server.url) as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    def _server(self, engine: str) -> Engine:
        return Engine(engine)

    def _sentinel(self, port: str) -> redis.Redis:
        return redis.Redis(port=int(port), password=self.sentinel_password)

    def _configuration(self, port: str, master_port: str) -> str:
        return (
            f"port {port}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master_port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )


@contextmanager
def watched(engine: str) -> Iterator[Watched]:
    """Run them for a while."""
    servers = Watched(engine)
    try:
        servers.start()
        yield servers
    finally:
        servers.remove()
