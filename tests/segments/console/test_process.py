"""The console's own process."""

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.engines import Engine
from tests.memory import proportional_bytes

_WITHIN_S = 60
_MOST_BYTES = 90_000_000


def test_process_takes_at_most_90_mb_and_loads_nothing_that_reads_files(
    tmp_path: Path, migrated_file: Path, valkey: Engine
) -> None:
    shutil.copy2(migrated_file, tmp_path)
    log = tmp_path / "log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SEGMENTS_")},
        "SEGMENTS_DATA_DIR": str(tmp_path),
        "SEGMENTS_REDIS_URL": valkey.url,
        "SEGMENTS_CONSOLE_PORT": "0",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "segments", "console"], stderr=output, env=environment
        )
    try:
        url = f"http://127.0.0.1:{_port(process, log)}/login"
        with urllib.request.urlopen(url, timeout=_WITHIN_S) as page:
            assert page.status == 200
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
        taken_bytes = proportional_bytes(process.pid)
    finally:
        process.terminate()
        process.wait(_WITHIN_S)

    assert "/sqlalchemy/" in loaded
    assert not re.findall(r"/(?:numpy|isal|cryptography|asyncpg|pyarrow)/.*", loaded)
    assert taken_bytes <= _MOST_BYTES


def _port(process: subprocess.Popen[bytes], log: Path) -> str:
    give_up_at_s = time.monotonic() + _WITHIN_S
    while not (found := re.search(r"listening on port (\d+)", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up_at_s, log.read_text()
        time.sleep(0.05)
    return found[1]
