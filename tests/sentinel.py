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

    def __init__(self, engine: str) -> None:
        self.servers = [Engine(engine), Engine(engine)]
        self._engine = engine
        self._dir = Path(tempfile.mkdtemp(prefix="sen-"))
        self._ports = [free_port() for _ in range(3)]
        self._sentinels: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """Where the product finds them."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self._ports)}/{SERVICE}"

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
                f"port {port}\nbind 127.0.0.1\ndir {self._dir}\nlogfile {self._dir}/{n}.log\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {SERVICE} 3000\n"
            )
            argv = [binary_of(self._engine), str(file), "--sentinel"]
            self._sentinels.append(start_server(argv))
        until_true(self._is_settled)

    def master(self) -> Engine:
        """Return whom the Sentinels name."""
        with redis.Redis(port=int(self._ports[0])) as client:
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
            with redis.Redis(port=int(port)) as client:
                known = client.sentinel_master(SERVICE)
            if known["num-slaves"] != 1 or known["num-other-sentinels"] != 2:
                return False
        with redis.Redis.from_url(self.servers[1].url) as client:
            return bool(client.info("replication")["master_link_status"] == "up")


@contextmanager
def watched(engine: str) -> Iterator[Watched]:
    """Run them for a while."""
    servers = Watched(engine)
    try:
        servers.start()
        yield servers
    finally:
        servers.remove()
