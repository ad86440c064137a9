"""The load bench, small: it counts what both sides came to, and both had the same rows."""

import gzip
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.bench.load_rate import DEEDS
from loadtest.bench.rows import Rows
from loadtest.servers import peak_bytes

ROWS = 2_000
SIDES = ("rtb-segments loader", "redis-cli --pipe")


def test_file_and_commands_are_of_the_same_hashes(tmp_path: Path) -> None:
    rows = Rows(70_000)  # more than a block

    digest = rows.write_file(tmp_path / "rows.gz")
    rows.write_commands(tmp_path / "rows.resp", "SADD", "12")

    delivered = (tmp_path / "rows.gz").read_bytes()
    lines = gzip.decompress(delivered).decode().splitlines()
    assert hashlib.md5(delivered, usedforsecurity=False).hexdigest() == digest
    assert (len(lines), len(set(lines))) == (rows.count, rows.count)
    assert all(re.fullmatch("[0-9a-f]{64}", line) for line in lines)
    assert (tmp_path / "rows.resp").read_bytes().decode() == "".join(
        f"*3\r\n$4\r\nSADD\r\n$68\r\nseg:{line}\r\n$2\r\n12\r\n" for line in lines
    )


def test_other_seed_makes_other_rows(tmp_path: Path) -> None:
    for name, rows in (("a", Rows(10)), ("b", Rows(10)), ("c", Rows(10, seed=2))):
        rows.write_commands(tmp_path / name, "SREM", "1")

    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert len(a) == len(c)
    assert a != c


@pytest.mark.timeout(240)
def test_bench_does_every_kind_of_load_on_both_sides() -> None:
    """
    It checks the counts itself and fails on a wrong one.
    """
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", "load-bench", f"--rows={ROWS}", "--every-kind"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    for deed in DEEDS:
        for side in SIDES:
            assert re.search(rf"{deed.name} +{side} +[\d,]+ +\d+\.\d\d ", done.stdout), done.stdout
    assert "peak memory of the loader, MB" in done.stdout


@pytest.mark.long
@pytest.mark.timeout(240)
def test_bench_loads_into_a_cluster_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", "load-bench", f"--rows={ROWS}", "--cluster"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert re.search(r"into a Cluster +[\d,]+ +\d+\.\d\d ", done.stdout), done.stdout


def test_side_without_redis_cli_is_said_to_be_skipped(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", "load-bench", f"--rows={ROWS}"],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "skipped: redis-cli is not installed" in done.stdout
    assert "of the pipe" not in done.stdout


def test_peak_is_what_a_process_has_had() -> None:
    size = 64 << 20
    before = peak_bytes(os.getpid())

    b"\x01" * (before + size)  # touched, and let go

    assert peak_bytes(os.getpid()) >= before + size // 2
