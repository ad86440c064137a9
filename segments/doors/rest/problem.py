"""
What a REST door answers when it can't do what was asked: RFC 9457.

    {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "..."}

A problem is an exception, because it ends the operation wherever it is found
out; one place turns it into an answer, in the form of the door that was
asked: see `segments.doors.rest.door`. `detail` names fields, positions and counts,
never a value out of a body.
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
    An operation ends without doing what was asked.

    Args:
        status: Of HTTP.
        detail: What is wrong, for the engineer on the other side.
        headers: Of the answer, such as `Retry-After`.
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
    """Whoever asks has not said who they are, or not convincingly."""

    def __init__(self, detail: str, *, is_missing: bool) -> None:
        super().__init__(401, detail)
        self.is_missing = is_missing
        """Nothing was said; some vendors answer that with another status."""


class ProblemDocument(BaseModel):
    """RFC 9457, section 3; extension members may follow."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None


def problem_document(problem: Problem) -> web.Response:
    """Render a problem as RFC 9457 has it."""
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
    """Say which members of a request are wrong, and how; not what they were."""
    errors = [
        {"in": where, "pointer": _pointer(fault.loc), "detail": fault.sentence} for fault in faults
    ]
    first = errors[0]
    place = f"{where} {first['pointer']}".strip()
    return Problem(400, f"{place}: {first['detail']}", errors=errors)


def _pointer(loc: Sequence[int | str]) -> str:
    """Return a place as RFC 6901 has it; of a name that the caller made up, the beginning."""
    return "".join("/" + str(part)[:64].replace("~", "~0").replace("/", "~1") for part in loc)
