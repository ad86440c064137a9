"""
Problems: the error answers of REST doors, RFC 9457.

    {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "..."}

An exception, because it can end an operation anywhere; `segments.doors.rest.door` answers in the
door's form. `detail` has fields, positions and counts, never a value from a body.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict

from segments.runtime.validation_faults import Fault

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """
    An operation failed.

    Args:
        status: HTTP status.
        detail: The fault, for the client's engineer.
        headers: Headers of the answer, such as `Retry-After`.
        members: Extension members (RFC 9457, 3.2).
    """

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members


class NotAuthenticated(Problem):
    """The credentials are missing or invalid."""

    def __init__(self, detail: str, *, is_missing: bool) -> None:
        super().__init__(401, detail)
        self.is_missing = is_missing
        """There are no credentials; some vendors answer that with another status."""


class ProblemDocument(BaseModel):
    """RFC 9457, section 3; extension members may follow."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None


def problem_document(problem: Problem) -> web.Response:
    """Render a problem in RFC 9457's form."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        **({"detail": problem.detail} if problem.detail else {}),
        **problem.members,
    }
    return web.Response(
        body=orjson.dumps(document),
        status=problem.status,
        content_type=CONTENT_TYPE,
        headers=problem.headers,
    )


def invalid(where: str, faults: Sequence[Fault]) -> Problem:
    """Return the problem for invalid members, without their values."""
    errors = [
        {"in": where, "pointer": _pointer(fault.loc), "detail": fault.sentence} for fault in faults
    ]
    first = errors[0]
    place = f"{where} {first['pointer']}".strip()
    return Problem(400, f"{place}: {first['detail']}", errors=errors)


def _pointer(loc: Sequence[int | str]) -> str:
    """Return a JSON Pointer (RFC 6901); long names are cut off."""
    return "".join("/" + str(part)[:64].replace("~", "~0").replace("/", "~1") for part in loc)
