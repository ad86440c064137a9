"""The configurations of other servers in `deploy/`, with a test's own ports and passwords."""

import hashlib
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.docs.pages import ROOT
from tests.engines import Engine, start_server
from tests.sentinel import Watched
from tests.tls import TestCa

DEPLOY = ROOT / "deploy"

SENTINEL_PASSWORD = "of the Sentinels"
_BIDS, _DOORS = "server 127.0.0.1:8080 ", "server 127.0.0.1:8082 "


def nginx() -> str:
    """Return the path of nginx. A missing one fails the test."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert program, "nginx is not installed; `make test` installs it"
    return program


def nginx_conf(folder: Path, ca: TestCa, listening: Sequence[int] = (8443, 8444, 8445)) -> str:
    """
    Return `deploy/nginx.conf` with a certificate of ours.

    Args:
        folder: For its files.
        ca: Whose certificate all servers show.
        listening: Its ports of bids, doors and console.
    """
    text = (DEPLOY / "nginx.conf").read_text()
    text = re.sub(r"/etc/nginx/tls/\w+\.crt", str(ca.cert), text)
    text = re.sub(r"/etc/nginx/tls/\w+\.key", str(ca.key), text)
    for written, port in zip((8443, 8444, 8445), listening, strict=True):
        text = _once(text, f"listen {written} ssl", f"listen 127.0.0.1:{port} ssl")
    return f"pid {folder}/pid;\nerror_log {folder}/error.log;\n{text}"


def with_replicas(text: str, listeners: Sequence[int], doors: Sequence[int]) -> str:
    """Put the ports of replicas into nginx's configuration, a line each as the one there."""
    for written, ports in ((_BIDS, listeners), (_DOORS, doors)):
        [line] = [line for line in text.splitlines() if written in line]
        lines = (line.replace(written, f"server 127.0.0.1:{port} ") for port in ports)
        text = _once(text, line, "\n".join(lines))
    return text


@contextmanager
def running_nginx(folder: Path, text: str) -> Iterator[None]:
    """Run nginx with a configuration of `nginx_conf`."""
    file = folder / "nginx.conf"
    file.write_text(text)
    server = start_server([nginx(), "-p", str(folder), "-c", str(file), "-g", "daemon off;"])
    try:
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def sentinel_conf(port: str, master_port: str = "6379") -> str:
    """Return `deploy/sentinel.conf`."""
    text = (DEPLOY / "sentinel.conf").read_text()
    text = _once(text, "port 26379", f"port {port}")
    text = _once(text, "127.0.0.1 6379", f"127.0.0.1 {master_port}")
    text = text.replace(" SENTINEL_PASSWORD", f' "{SENTINEL_PASSWORD}"')
    return _once(text, "STORE_PASSWORD_OF_SENTINEL", password_of("sentinel"))


def acl_file() -> str:
    """Return `deploy/redis.acl` with the hash of each user's password."""

    def digest(match: re.Match[str]) -> str:
        user = match[1].lower().replace("_", "-")
        return f"#{hashlib.sha256(password_of(user).encode()).hexdigest()}"

    return re.sub(r"#SHA256_OF_(\w+)", digest, (DEPLOY / "redis.acl").read_text())


def password_of(user: str) -> str:
    """Return a user's password at the store."""
    return f"password-of-{user}"


class Deployed(Watched):
    """A master, its replica and three Sentinels, configured by `deploy/`, for its users alone."""

    sentinel_password = SENTINEL_PASSWORD

    def url_of(self, user: str) -> str:
        """Return where the product finds the store, as a user of it."""
        options = f"?sentinel_password={SENTINEL_PASSWORD.replace(' ', '%20')}"
        return self.url.replace("//", f"//{user}:{password_of(user)}@") + options

    def refused(self) -> set[str]:
        """Return what the running servers have refused to users; a client's name is no matter."""
        found = set()
        for server in self.servers:
            if server.is_running:
                with redis.Redis.from_url(server.url) as client:
                    found |= {f"{log['username']}: {log['object']}" for log in client.acl_log()}
        return {refusal for refusal in found if not refusal.endswith("client|setinfo")}

    def _server(self, engine: str) -> Engine:
        server = Engine(engine)
        users = server.dir / "users.acl"
        users.write_text(acl_file())
        server.extra = (
            "--aclfile", str(users),
            "--masteruser", "replica", "--masterauth", password_of("replica"),
        )  # fmt: skip
        server.url = f"unix://operator:{password_of('operator')}@{server.dir}/s.sock"
        return server

    def _configuration(self, port: str, master_port: str) -> str:
        return sentinel_conf(port, master_port)


def _once(text: str, written: str, ours: str) -> str:
    assert text.count(written) == 1, f"{written!r} is not once in the configuration"
    return text.replace(written, ours)
