"""The page's table of readers is what processes read."""

import json
import os
import subprocess
import sys
from pathlib import Path

from docs.make.settings_readers import PROCESSES, fields_read_by
from segments.settings import Settings

_NOTING = """
import json, sys
from segments.cli import main
from segments.settings import Settings

seen, building = set(), [False]
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
    print(json.dumps(sorted(seen)))
"""


def test_process_that_runs_reads_what_the_table_says(tmp_path: Path) -> None:
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("SEGMENTS_", "RTB_"))}
    settings = {"SEGMENTS_DATA_DIR": "data", "SEGMENTS_SFTP_PORT": "0"}
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", _NOTING, "sftp"],
        cwd=tmp_path,
        env={**ours, **settings, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "SFTP on port" in line:
                process.terminate()
        assert process.stdout is not None
        seen = process.stdout.read()

    assert process.returncode == 0, said
    read = set(json.loads(seen)) | {"otlp_every_s"}  # asked for with SEGMENTS_OTLP_URL alone
    assert read == fields_read_by("sftp")


def test_each_process_reads_some_and_none_reads_all() -> None:
    for process in PROCESSES:
        assert {"data_dir", "ledger_url", "redis_url"} <= fields_read_by(process)
        assert fields_read_by(process) < set(Settings.model_fields)
