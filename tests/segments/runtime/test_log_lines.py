"""What a process logs: one form, one clock, the request's id; libraries are never louder."""

import json
import logging
import re

import pytest

from segments.runtime.log_lines import LogFormat, log_to_stderr, request

_LIBRARIES = ("alembic.runtime.migration", "alembic.runtime.plugins", "asyncssh")

_log = logging.getLogger("segments.doors.rest.failures")


@pytest.mark.parametrize(
    ("word", "level"),
    [("debug", logging.WARNING), ("info", logging.WARNING), ("error", logging.ERROR)],
)
def test_library_that_says_too_much_warns_and_is_never_louder_than_asked(
    word: str, level: int
) -> None:
    log_to_stderr(word, "text", "api")

    assert {logging.getLogger(name).getEffectiveLevel() for name in _LIBRARIES} == {level}


def said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, log_format: LogFormat
) -> list[str]:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    log_to_stderr("info", log_format, "api")
    with request() as request_id:
        _log.error("refused: %s", "the ledger is away")
        try:
            raise ValueError("one\ntwo")
        except ValueError:
            _log.exception("a bug")
    _log.info("later")
    return [line.replace(request_id, "ID") for line in capsys.readouterr().err.splitlines()]


def test_line_of_text_has_time_level_process_module_and_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_, last = said(capsys, monkeypatch, "text")

    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    place = "api segments.doors.rest.failures"
    assert re.fullmatch(rf"{time} ERROR {place}: refused: the ledger is away \[request ID\]", first)
    assert re.fullmatch(rf"{time} INFO {place}: later", last)


def test_line_of_json_is_one_object_with_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, bug, later = map(json.loads, said(capsys, monkeypatch, "json"))

    assert {name: refused[name] for name in ("level", "process", "message", "request_id")} == {
        "level": "error",
        "process": "api",
        "message": "refused: the ledger is away",
        "request_id": "ID",
    }
    assert refused["time"].endswith("Z")
    assert "ValueError: one\ntwo" in bug["exception"]
    assert "request_id" not in later
