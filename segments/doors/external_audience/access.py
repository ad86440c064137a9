"""
Authentication for external audiences, and the vendor's form of a refusal.

Four headers are required and must agree: `Authorization: Bearer`, `x-api-key`,
`x-gw-ims-org-id`, `x-sandbox-name`. A token opens a single sandbox, which the others confirm.

The vendor publishes codes, statuses and messages ("Appendix"), but no body. Ours is an RFC 9457
problem: the code is its `errorCode` and the end of its `type`, the message its `title`. A status
without a code (404 of a path, 413, 415, 429) is a plain problem.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web
from pydantic import Field

from segments.doors.rest.auth import Caller, bearer_token
from segments.doors.rest.problem import Problem, ProblemDocument, problem_document
from segments.doors.rest.services import Services
from segments.ledger import accounts
from segments.ledger.database.engine import reading
from segments.ledger.external_audience import orgs
from segments.ledger.external_audience.orgs import Credential, Sandbox

API_KEY = "x-api-key"
ORG = "x-gw-ims-org-id"
SANDBOX = "x-sandbox-name"
_ERRORS = "http://ns.adobe.com/aep/errors/"

CODE_TO_MESSAGE = {
    "100910-400": "BAD_REQUEST",
    "100911-400": "BAD_REQUEST",
    "100920-401": "UNAUTHORIZED",
    "100921-401": "UNAUTHORIZED",
    "100922-401": "UNAUTHORIZED",
    "100940-404": "NOT_FOUND",
    "100950-409": "DUPLICATE_RESOURCE",
    "100960-422": "UNPROCESSABLE_ENTITY",
    "100970-500": "INTERNAL_SERVER_ERROR",
    "100970-502": "BAD_GATEWAY",
}
"""The document's "Appendix"."""

_STATUS_TO_CODE = {
    400: "100910-400",
    401: "100922-401",
    404: "100940-404",
    409: "100950-409",
    422: "100960-422",
    500: "100970-500",
    502: "100970-502",
}


class ExternalProblem(ProblemDocument):
    """A refusal; the vendor's code is `errorCode`, its message `title`."""

    errorCode: str | None = Field(None, examples=list(CODE_TO_MESSAGE))  # noqa: N815 - as the others


def external_problem(problem: Problem) -> web.Response:
    """Convert a problem to the vendor's form, if the vendor has a code for it."""
    code = problem.members.get("errorCode", _STATUS_TO_CODE.get(problem.status))
    if code not in CODE_TO_MESSAGE:
        return problem_document(problem)
    said = {
        "type": _ERRORS + code,
        "title": CODE_TO_MESSAGE[code],
        **problem.members,
        "errorCode": code,
    }
    return problem_document(
        Problem(problem.status, problem.detail, headers=problem.headers, **said)
    )


@dataclass(frozen=True)
class SandboxCaller(Caller):
    """A caller and its sandbox. `who` is the API key, common to a sandbox's requests."""

    sandbox: Sandbox
    user_id: str  # `createdBy`


class SandboxCredentials:
    """The scheme of the four headers."""

    name = "orgToken"
    openapi: Mapping[str, Any] = {
        "type": "http",
        "scheme": "bearer",
        "description": "As `rtb-segments org add` shows it.",
    }
    openapi_besides: Mapping[str, Any] = {
        "apiKey": {"type": "apiKey", "in": "header", "name": API_KEY},
        "imsOrgId": {"type": "apiKey", "in": "header", "name": ORG},
        "sandboxName": {"type": "apiKey", "in": "header", "name": SANDBOX},
    }

    def __init__(self, services: Services) -> None:
        self._services = services

    async def caller(self, request: web.Request) -> SandboxCaller:
        """
        Return the caller of a request.

        Raises:
            Problem: 100920-401, 100911-400, 100921-401 or 100922-401, in this order.
        """
        for header in (hdrs.AUTHORIZATION, API_KEY, ORG, SANDBOX):
            if not request.headers.get(header):
                raise _refused("100920-401", f"the header {header} is missing")
        token = bearer_token(request)
        async with reading(self._services.ledger) as conn:
            found = None if token is None else await orgs.credential_of(conn, token)
            if found is None:
                raise _refused("100911-400", "the access token is not valid")
            self._check(request, found)
            account = await accounts.account(conn, found.sandbox.account_id)
            partner = await accounts.partner_of(conn, account)
        if not (account.is_active and partner.is_active):
            raise _refused("100922-401", "the account was deactivated")
        services = self._services
        await orgs.note_use(services.ledger, found, now_s=services.now_s())
        return SandboxCaller(account, found.api_key, found.sandbox, found.user_id)

    def _check(self, request: web.Request, found: Credential) -> None:
        if request.headers[ORG] != found.sandbox.ims_org_id:
            raise _refused("100921-401", f"{ORG} is not the token's")
        is_meant = (
            request.headers[API_KEY] == found.api_key
            and request.headers[SANDBOX] == found.sandbox.name
        )
        if not (is_meant and found.is_active):
            raise _refused(
                "100922-401",
                f"the token was revoked, or is not for this {API_KEY} and {SANDBOX}",
            )


def _refused(code: str, detail: str) -> Problem:
    return Problem(int(code.rpartition("-")[2]), detail, errorCode=code)
