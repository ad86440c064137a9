"""The configurations of other servers: nginx and Sentinels take them as they are."""

import re
import shutil
import subprocess
from pathlib import Path

import redis

from tests.cluster import until_true
from tests.docs.pages import ROOT
from tests.engines import binary_of, free_port, start_server
from tests.tls import TestCa

DEPLOY = ROOT / "deploy"


def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    ca = TestCa.in_folder(tmp_path / "ca")
    text = (DEPLOY / "nginx.conf").read_text()
    text = re.sub(r"/etc/nginx/tls/\w+\.crt", str(ca.cert), text)
    text = re.sub(r"/etc/nginx/tls/\w+\.key", str(ca.key), text)
    file = tmp_path / "nginx.conf"
    file.write_text(f"pid {tmp_path}/pid;\n{text}")
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert nginx, "nginx is not installed; `make test` installs it"

    tried = subprocess.run(
        [nginx, "-t", "-p", str(tmp_path), "-e", "stderr", "-c", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert tried.returncode == 0, tried.stderr
    assert "[warn]" not in tried.stderr


def test_sentinel_takes_its_configuration_and_watches_the_service(
    engine_name: str, tmp_path: Path
) -> None:
    port = free_port()
    text = (DEPLOY / "sentinel.conf").read_text().replace("port 26379", f"port {port}")
    file = tmp_path / "sentinel.conf"
    file.write_text(text)
    server = start_server([binary_of(engine_name), str(file), "--sentinel"])
    try:
        with redis.Redis(port=int(port), password="SENTINEL_PASSWORD") as client:
            until_true(lambda: _answers(client))
            watched = client.sentinel_masters()
    finally:
        server.kill()
        server.wait()

    assert list(watched) == ["segments"]
    assert watched["segments"]["quorum"] == 2


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
