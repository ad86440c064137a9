"""
LiveIntent's Privacy Management API: data subject requests.

    POST /data-subject-requests                     RESTRICT, ERASURE, ACCESS
    POST /data-subject-requests/test                only checks a request
    GET  /data-subject-requests/{transactionId}     a request and its report's URL
    GET  /data-subject-report/{transactionId}       a signed URL -> 303 to the report
    POST /search/data-subject-requests              requests by e-mail hashes

A report's signed URL is permission enough. All else needs a bearer token, personal data an internal
token. Deprecated endpoints with JWTs: see `legacy_door`.
"""

import re
from http import HTTPStatus
from urllib.parse import urlsplit
from uuid import uuid4

from aiohttp import hdrs, web

from segments.doors.privacy.agent import Agent, PrivacyTokens, Refusals
from segments.doors.privacy.report import iso
from segments.doors.privacy.report_store import REPORTS, Reports
from segments.doors.privacy.schemas import (
    ApplicationError,
    DataSubjectRequest,
    DataSubjectRequestSearch,
    DataSubjectRequestSearchResult,
    DataSubjectRequestWithReport,
    DataSubjectResponse,
    DsrAction,
    NewDataSubjectRequest,
    ReportQuery,
    TransactionPath,
    subject_ids,
)
from segments.doors.privacy.scope import told
from segments.doors.privacy.submission import Asked, Forbidden, Submissions
from segments.doors.rest.door import Door, Reply, operation
from segments.doors.rest.problem import NotAuthenticated, Problem
from segments.doors.rest.services import Services
from segments.ledger import accounts
from segments.ledger.database.engine import reading
from segments.ledger.privacy import audit, subject_requests
from segments.ledger.privacy.audit import Entry
from segments.ledger.privacy.subject_requests import SubjectRequest
from segments.model.account import AccountTree

MAX_RESULTS = 1000

_TRANSACTION_ID = re.compile(r"[0-9a-f]{32}")


class VendorsDoor(Door):
    """A door whose problems have the Privacy API's form."""

    problem_model = ApplicationError
    problem_content_type = "application/json"
    answers_below = ("/data-subject-", "/search/", "/dsr", "/ping", "/oath", "/submit")

    def problem(self, problem: Problem) -> web.Response:
        """Answer a problem: 401 if the token is missing, 403 if it is invalid."""
        status = problem.status
        if isinstance(problem, NotAuthenticated) and not problem.is_missing:
            status = HTTPStatus.FORBIDDEN.value
        error = ApplicationError(
            httpStatus=status,
            message=problem.detail or HTTPStatus(status).phrase,
            errorCode=problem.members.get("errorCode", HTTPStatus(status).name),
            transactionId=problem.members.get("transactionId"),
        )
        return web.Response(
            text=error.model_dump_json(exclude_none=True),
            status=status,
            content_type="application/json",
            headers=problem.headers,
        )


class PrivacyDoor(VendorsDoor):
    """Data subject requests, as in LiveIntent's Privacy Management API."""

    tag = "Privacy Management API"

    def __init__(
        self, services: Services, submissions: Submissions, refusals: Refusals, reports: Reports
    ) -> None:
        self.schemes = (PrivacyTokens(services, refusals),)
        self._services = services
        self._submissions = submissions
        self._refusals = refusals
        self._reports = reports

    @operation(
        "POST", "/data-subject-requests", answers={202: DataSubjectResponse}, problems=(403, 503)
    )
    async def submit(self, *, caller: Agent, body: NewDataSubjectRequest) -> DataSubjectResponse:
        """
        Submit a request of one data subject; all given ids are that person's.

        RESTRICT and ERASURE are in force with the answer: the next bid request
        obeys. A 503 with errorCode NOT_IN_FORCE_YET says that the request is
        recorded, under its transactionId, but not in force yet; repeat the request
        to learn its state. ACCESS is for internal tokens.
        """
        return DataSubjectResponse(
            transactionId=await self._submissions.submit(caller, _asked(body))
        )

    @operation(
        "POST", "/data-subject-requests/test", answers={202: DataSubjectResponse}, problems=(403,)
    )
    async def test(self, *, caller: Agent, body: NewDataSubjectRequest) -> DataSubjectResponse:
        """
        Check a request, and whether the token may submit it, and forget it.

        Nothing is kept and nothing changes; the transactionId is random.
        """
        await self._submissions.check(caller, _asked(body))
        return DataSubjectResponse(transactionId=uuid4().hex)

    @operation(
        "GET",
        "/data-subject-requests/{transactionId}",
        answers={200: DataSubjectRequestWithReport},
        problems=(403, 404),
    )
    async def read(
        self, *, caller: Agent, path: TransactionPath, request: web.Request
    ) -> DataSubjectRequestWithReport:
        """Show a request, and the URL of its report; for internal tokens."""
        transaction_id = path.transactionId
        await self._check_internal(caller, Entry("read"))
        async with reading(self._services.ledger) as conn:
            tree = await accounts.tree(conn)
            found = None
            if _TRANSACTION_ID.fullmatch(transaction_id):
                visible_to = _visible_to(caller, tree)
                found = await subject_requests.find(conn, transaction_id, visible_to)
        if found is None:
            raise Problem(404, "there is no request of this transactionId that you may see")
        await self._note(caller, Entry("read", transaction_id=transaction_id))
        has_report = found.access is not None and found.access.blob is not None
        base_url = self._base(request)
        return DataSubjectRequestWithReport(
            **dict(_told(tree, found)),
            downloadUrl=self._reports.url(base_url, transaction_id) if has_report else None,
        )

    @operation(
        "GET",
        "/data-subject-report/{transactionId}",
        answers={303: None},
        problems=(403, 404),
    )
    async def redirect(
        self, *, path: TransactionPath, query: ReportQuery, request: web.Request
    ) -> Reply:
        """Redirect to a report. The URL is the permission: it is signed, and expires."""
        location = await self._reports.location(
            self._base(request), path.transactionId, query.expiresAt, query.signature
        )
        async with self._services.ledger.begin() as conn:
            entry = Entry("download", transaction_id=path.transactionId)
            await audit.add(conn, audit.UNKNOWN, [entry], now_s=self._services.now_s())
        return Reply(None, 303, {str(hdrs.LOCATION): location})

    @operation(
        "GET", f"/{REPORTS}/{{transactionId}}.json", answers={200: None}, problems=(403, 404)
    )
    async def download(self, *, path: TransactionPath, request: web.Request) -> web.Response:
        """Download a report; `GET /data-subject-report/{transactionId}` redirects here."""
        base = urlsplit(self._base(request))
        target = base.path + request.raw_path
        content = await self._reports.content(
            request.method, base.netloc, target, path.transactionId
        )
        return web.Response(
            body=content,
            content_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{path.transactionId}.json"'},
        )

    @operation(
        "POST",
        "/search/data-subject-requests",
        answers={200: DataSubjectRequestSearchResult},
        problems=(403,),
    )
    async def search(
        self, *, caller: Agent, body: DataSubjectRequestSearch
    ) -> DataSubjectRequestSearchResult:
        """Find requests by e-mail hashes, the newest first; for internal tokens."""
        ids = [each.id for each in subject_ids(body.emailHashes)]
        await self._check_internal(caller, Entry("search", ids=ids))
        async with reading(self._services.ledger) as conn:
            tree = await accounts.tree(conn)
            found = await subject_requests.of_ids(
                conn, ids, _visible_to(caller, tree), limit=MAX_RESULTS
            )
        await self._note(caller, Entry("search", ids=ids))
        return DataSubjectRequestSearchResult(results=tuple(_told(tree, each) for each in found))

    async def _check_internal(self, agent: Agent, entry: Entry) -> None:
        if not agent.is_internal:
            refused = Forbidden("this is for internal use only", "INTERNAL_ONLY")
            await self._refusals.note(agent.who, entry._replace(refused_because=refused.detail))
            raise refused

    async def _note(self, agent: Agent, entry: Entry) -> None:

        scope_id = None if agent.account is None else agent.account.id
        async with self._services.ledger.begin() as conn:
            seen = entry._replace(scope_id=scope_id)
            await audit.add(conn, agent.who, [seen], now_s=self._services.now_s())

    def _base(self, request: web.Request) -> str:
        return self._services.options.public_url or f"{request.scheme}://{request.host}"


def _asked(body: NewDataSubjectRequest) -> Asked:
    return Asked(
        body.action, body.ids(), body.scope, body.jurisdiction, body.submitter, body.callback
    )


def _visible_to(agent: Agent, tree: AccountTree) -> frozenset[int] | None:
    return None if agent.account is None else tree.within(agent.account.id)


def _told(tree: AccountTree, found: SubjectRequest) -> DataSubjectRequest:
    return DataSubjectRequest(
        transactionId=found.transaction_id,
        action=DsrAction(found.action),
        scope=told(tree, found.account_id),
        status=found.status,
        jurisdiction=found.jurisdiction,
        submitter=found.submitter,
        callback=found.callback,
        userId=found.token_id,
        emailHashes=found.email_hashes,
        createdAt=iso(found.created_at_s),
    )
