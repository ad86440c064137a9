"""`python -m loadtest run`, as a process, against a service that never enriches."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from loadtest.__main__ import main

HOST = "127.0.0.1"


class _Passing(BaseHTTPRequestHandler):
    """Passes every bid with another body, as late."""

    protocol_version = "HTTP/1.1"
    paths: list[str] = []  # noqa: RUF012 - of the one server of this module

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.paths.append(self.path)
        self.send_response(200)
        self.send_header("X-Enrich-Outcome", "store_down")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class
        """Say nothing."""


@pytest.fixture
def passing() -> Iterator[str]:
    """The URL of such a service."""
    server = ThreadingHTTPServer((HOST, 0), _Passing)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that hang up
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{HOST}:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_run_without_an_enriched_answer_fails_at_its_rate_with_one_line_a_kind(
    passing: str,
) -> None:
    argv = ["--headless", "-u", "4", "-r", "4", "-t", "3s", "--rate", "20", "--ids", "1000"]

    ended = subprocess.run(
        [sys.executable, "-m", "loadtest", "run", *argv, "--host", passing],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    said = ended.stdout + ended.stderr
    assert ended.returncode == 1
    assert "no answer was enriched in time" in said
    failures = [line.split(maxsplit=1)[1] for line in said.splitlines() if "(first: " in line]
    kinds = {failure.partition(" (first: ")[0] for failure in failures}
    assert "POST enriched: N bytes that are not the N that came" in kinds
    assert len(failures) == len(kinds)
    assert 4 <= len(_Passing.paths) <= 80


def test_help_has_our_arguments_before_locusts(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, argv: taken.append(argv))

    said = CliRunner().invoke(main, ["run", "--help"]).output

    assert all(name in said for name in ("--ids", "--segments-per-id", "--rate", "--seed"))
    assert taken[0][-1] == "--help"
