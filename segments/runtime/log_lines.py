"""
Log lines of every process: one per event on stderr, which the container collects, in UTC.

    text   2026-11-30T12:00:00.123Z INFO api segments.processes.rest_api: listening on port 8082
    json   {"time": "...", "level": "info", "process": "api", "logger": "...", "message": "..."}

A line logged while a REST door or the console answers ends with the request's id, which the client
gets as `X-Request-Id`; in JSON: `request_id`. The id is made here: a client's own could be a
person's.
"""

import json
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal

from segments.runtime.log_level import LogLevel, be_as_loud_as

LogFormat = Literal["text", "json"]

REQUEST_ID_HEADER: Final = "X-Request-Id"

_request_id: ContextVar[str] = ContextVar("request_id", default="")

_TALKATIVE: Final = ("alembic.runtime.migration", "alembic.runtime.plugins", "asyncssh")
"""At INFO, they log every step of a migration, every plugin, every client's address."""


def log_to_stderr(log_level: LogLevel, log_format: LogFormat, process: str) -> None:
    """Log this level and above; of several calls the last holds."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json(process) if log_format == "json" else _Text(process))
    root = logging.getLogger()
    for earlier in root.handlers[:]:  # such as that of the process which forked this one
        if isinstance(earlier.formatter, _Json | _Text):
            root.removeHandler(earlier)
    logging.basicConfig(handlers=[handler])
    be_as_loud_as(log_level)
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(max(logging.getLogger().level, logging.WARNING))


@contextmanager
def request() -> Iterator[str]:
    """Yield a request's id, which lines logged meanwhile have."""
    drawn = secrets.token_hex(8)
    token = _request_id.set(drawn)
    try:
        yield drawn
    finally:
        _request_id.reset(token)


class _Text(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s")

    def formatTime(  # noqa: N802 - logging's name
        self, record: logging.LogRecord, datefmt: str | None = None
    ) -> str:
        del datefmt
        return _utc(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        said = super().formatMessage(record)
        request_id = _request_id.get()
        return f"{said} [request {request_id}]" if request_id else said


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := _request_id.get():
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _utc(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03}Z"
