"""The page's table of readers is what processes read."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from docs.make.settings_readers import PROCESSES, fields_read_by
from loadtest.ports import free_ports
from rtb.settings import RtbSettings
from segments.ledger.database.engine import open_ledger
from segments.settings import Settings
from segments.store.published.signing_key import make_key
from tests.cluster import until_true
from tests.edge.processes import listening
from tests.engines import Engine

_NOTING = """
import json, os, sys
from segments.cli import main
from segments.settings import Settings

seen, building, ours = set(), [False], os.getpid()
make, get = Settings.__init__, Settings.__getattribute__

def init(self, *args, **kwargs):
    building[0] = True
    make(self, *args, **kwargs)
    building[0] = False

def noting(self, name):
    if not building[0] and name in Settings.model_fields:
        seen.add(name)
    return get(self, name)

Settings.__init__, Settings.__getattribute__ = init, noting
try:
    main(sys.argv[1:])
finally:
    if os.getpid() == ours:  # not one that it has forked
        print(json.dumps(sorted(seen)))
"""


_NOTING_LISTENER = """
import os, sys
from rtb import settings
from segments.runtime import operator_settings

seen, get = set(), settings.RtbSettings.__getattribute__
OF_THE_CLASS = (settings.__file__, operator_settings.__file__)  # properties and checks

def noting(self, name):
    if name in settings.RtbSettings.model_fields and name not in seen:
        reader = sys._getframe(1)
        while reader.f_code.co_filename in OF_THE_CLASS:
            reader = reader.f_back
        if "pydantic" not in reader.f_code.co_filename:  # else they are being checked
            seen.add(name)
            with open(os.environ["SEEN"], "a") as file:
                print(name, *{"segments.settings"} & sys.modules.keys(), file=file)
    return get(self, name)

settings.RtbSettings.__getattribute__ = noting
"""


_READY = "/health/ready"
_COMMANDS = {
    "loader": ("SEGMENTS_LOADER_PORT", _READY),
    "api": ("SEGMENTS_API_ADMIN_PORT", _READY),
    "sftp": ("SEGMENTS_SFTP_ADMIN_PORT", _READY),
    "console": ("SEGMENTS_CONSOLE_PORT", "/login"),
    "publish --to file://{folder}/published --everything": ("SEGMENTS_PUBLISH_PORT", "/metrics"),
    "up": ("RTB_ADMIN_PORT", _READY),
}
"""Command -> the port that tells when it has begun, and the path there."""


def _ports() -> dict[str, str]:
    names = ("SFTP", "API", "CONSOLE")
    ports = zip(names, free_ports(len(names)), strict=True)
    return {f"SEGMENTS_{name}_PORT": str(port) for name, port in ports}


@pytest.mark.parametrize("command", _COMMANDS, ids=lambda command: command.split()[0])
def test_process_that_runs_reads_what_the_table_says(
    command: str, valkey: Engine, tmp_path: Path
) -> None:
    name, *arguments = command.format(folder=tmp_path).split()
    setting, path = _COMMANDS[command]
    port, bid_port = free_ports(2)
    make_key(tmp_path / "key")
    asyncio.run(_make_ledger(tmp_path / "data"))
    settings = {
        "RTB_PORT": str(bid_port),
        "SEGMENTS_DATA_DIR": "data",
        "SEGMENTS_REDIS_URL": valkey.url,
        "SEGMENTS_EXPECTED_IDS": "10000",
        "SEGMENTS_PUBLISH_KEY_FILE": "key",
        **_ports(),
        setting: str(port),
    }
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("SEGMENTS_", "RTB_"))}
    root = Path(__file__).parents[2]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", _NOTING, name, *arguments],
            cwd=tmp_path,
            env={**ours, **settings, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        until_true(lambda: process.poll() is not None or _answers(port, path))
        process.terminate()
        said, _ = process.communicate()

    assert process.returncode == 0, (tmp_path / "log").read_text()
    # Asked for with SEGMENTS_OTLP_URL alone.
    assert set(json.loads(said)) == fields_read_by(name) - {"otlp_every_s"}


async def test_listener_and_its_worker_read_all_of_theirs_and_no_other(
    valkey: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_NOTING_LISTENER)
    root, seen = Path(__file__).parents[2], tmp_path / "seen"
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{root}")
    monkeypatch.setenv("SEEN", str(seen))
    monkeypatch.setenv("SEGMENTS_OTLP_URL", "http://127.0.0.1:1")
    targeting: dict[str, Any] = {
        "targeting": True,
        "targeting_recipients": "dsp-a",
        "targeting_gdpr_when_unsaid": True,
    }
    # A pod that follows reads these: tests/segments/follow/test_serve.py.
    of_pods = {"follow_keys", "follow_poll_s", "follow_max_age_s"}

    async with listening(redis_url=valkey.url, cache_bytes=1 << 20, **targeting):
        pass  # some are read at its end

    assert set(seen.read_text().split()) == set(RtbSettings.model_fields) - of_pods


async def _make_ledger(folder: Path) -> None:
    async with open_ledger(Settings(data_dir=folder).ledger_dsn):
        pass


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_each_process_reads_some_and_none_reads_all() -> None:
    for process in PROCESSES:
        assert {"data_dir", "ledger_url", "redis_url"} <= fields_read_by(process)
        assert fields_read_by(process) < set(Settings.model_fields)
