"""
Errors as pages.

    no such page, and another account's      404, word for word the same
    a role without permission                403, with the permitted role
    a foreign page, an old form              403
    a conflict with the ledger               409, in the ledger's words
    a part that is away                      503, with the part; a fault of ours: 500

No page and no log quotes what was typed.
"""

from collections.abc import Collection
from http import HTTPStatus

from aiohttp import hdrs, web

from segments.console.visit import Visit
from segments.doors.rest import failures
from segments.doors.rest.problem import Problem
from segments.model.refusal import NotFound, Refusal
from segments.model.role import Role

_ROLE_TO_WHO = {
    Role.PARTNER: "a partner's user",
    Role.OPERATOR: "an operator",
    Role.PRIVACY: "the privacy desk",
}

_STATUS_TO_TITLE = {
    403: "Not for you",
    404: "Nothing here",
    409: "Not any more",
    413: "Too large",
    429: "Too many tries",
    500: "A fault of ours",
    503: "Away at the moment",
    507: "No room",
}


class Lost(Problem):
    """No such page, or another account's."""

    def __init__(self) -> None:
        super().__init__(404, "There is no such page, or it is not yours.")


class Forbidden(Problem):
    """A page of another role."""

    def __init__(self, roles: Collection[Role]) -> None:
        who = " or ".join(_ROLE_TO_WHO[role] for role in Role if role in roles)
        super().__init__(403, f"This page is for {who}. You are logged in with another role.")


class ForeignForm(Problem):
    """A form that none of our pages sent in this session."""

    def __init__(self) -> None:
        super().__init__(
            403,
            "This form was not sent by a page of this console in your present login. Go back, load"
            " the page again, and send it once more; nothing was changed.",
        )


def page_of(visit: Visit, error: Exception) -> web.Response:
    """Return the page of an error."""
    problem = problem_of(error)
    status = problem.status
    title = _STATUS_TO_TITLE.get(status, HTTPStatus(status).phrase)
    detail = problem.detail or "This can't be done."
    sentence = detail[:1].upper() + detail[1:]
    again = problem.headers.get(hdrs.RETRY_AFTER)
    answer = visit.page(
        "error.html",
        status=status,
        title=title,
        detail=sentence if sentence.endswith((".", "?")) else f"{sentence}.",
        again_s=None if again is None else int(again),
    )
    answer.headers.update(problem.headers)
    return answer


def problem_of(error: Exception) -> Problem:
    """Return an error as a problem; its detail is for the visitor."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, NotFound):
        return Lost()
    if isinstance(error, Refusal):
        return Problem(409, str(error))
    if isinstance(error, web.HTTPException):
        if error.status == HTTPStatus.NOT_FOUND:
            return Lost()
        detail = {
            405: "This page takes no such request.",
            413: "That is more than this page takes.",
        }.get(error.status, "")
        return Problem(error.status, detail)
    return failures.problem_of(error)
