"""The common part of the doors of digitalAudience's REST API: envelope and ownership."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from segments.doors.crm_audience.schemas import Envelope, Failure, Status
from segments.doors.rest.door import Door
from segments.doors.rest.problem import Problem
from segments.model.account import Account, AccountKind


class CrmDoor(Door):
    """A door that answers in envelopes, by paths in any case, as the vendor's."""

    ignores_case = True
    answers_below = ("/account/", "/campaign/", "/organisation/", "/organistion/", "/audience/")
    sends_null = True
    problem_model = Failure
    problem_content_type = "application/json"

    def also_at(self, path: str) -> Sequence[str]:
        """Return the path with a slash at its end."""
        return [f"{path}/"]

    def problem(self, problem: Problem) -> web.Response:
        """Answer a problem as an envelope without data."""
        status = Status(statusCode=problem.status, message=problem.detail or None)
        return web.Response(
            text=Failure(status=status).model_dump_json(),
            status=problem.status,
            content_type=self.problem_content_type,
            headers=problem.headers,
        )


def answered(data: Any) -> Envelope[Any]:
    """Wrap the answer of a successful operation."""
    return Envelope(data=data, status=Status(statusCode=0, message=None), success=True)


def check_owns(account: Account) -> None:
    """
    Refuse an agency, which has no persons itself.

    Raises:
        Problem: 403.
    """
    if account.kind is AccountKind.AGENCY:
        raise Problem(403, "log in as a user of a sub account: an agency has no audiences itself")
