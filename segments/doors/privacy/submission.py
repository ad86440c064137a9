"""
Processing of data subject requests, from any door.

    authorization -> ledger, audit trail -> store -> withdrawn reports deleted -> answer

A request is acknowledged once it is in force (`segments.projection.in_force`). If that takes too
long, the answer is a 503 with the transaction id: the loader applies the request first, and a
repetition returns its state. `report_store` makes an ACCESS request's report.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.doors.callback_sender import is_allowed
from segments.doors.privacy.agent import Agent, Refusals
from segments.doors.privacy.options import PrivacyOptions
from segments.doors.privacy.report_store import Reports
from segments.doors.privacy.schemas import DsrAction
from segments.doors.privacy.scope import AmbiguousScope, OutOfScope, Scope, resolved
from segments.doors.rest.not_in_force import NotInForceYet
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.ledger import accounts
from segments.ledger.database.engine import reading
from segments.ledger.privacy import access_requests, audit, opt_outs
from segments.ledger.privacy.access_requests import NewAccess, SubjectId
from segments.ledger.privacy.audit import Entry
from segments.ledger.privacy.opt_outs import OptOutSource, Request
from segments.model.account import Account
from segments.model.identity import Id
from segments.model.record import OptOutAction
from segments.projection.in_force import put_into_force

Spend = Callable[[AsyncConnection], Awaitable[bool]]
"""Spends the proof of a submitter's identity, in a request's transaction; false: spent before."""


class Asked(NamedTuple):
    """A data subject's request."""

    action: DsrAction
    ids: tuple[SubjectId, ...]
    scope: Scope | Account | None = None
    jurisdiction: str | None = None
    submitter: str | None = None
    callback: str | None = None
    reference: str | None = None  # the privacy desk's own; no member of the API


class Forbidden(Problem):
    """The agent is not authorized; this is recorded in the audit trail."""

    def __init__(self, detail: str, error_code: str) -> None:
        super().__init__(403, detail, errorCode=error_code)


class Replayed(Forbidden):
    """The same signed request was accepted before."""

    def __init__(self) -> None:
        super().__init__("this request was taken before", "REPLAYED")


class Submissions:
    """Processes data subject requests."""

    def __init__(
        self,
        services: Services,
        refusals: Refusals,
        reports: Reports,
        options: PrivacyOptions,
    ) -> None:
        self._services = services
        self._options = options
        self._refusals = refusals
        self._reports = reports

    async def check(self, agent: Agent, asked: Asked) -> int | None:
        """
        Authorize a request, and return the account that it is scoped to; `None` for everyone.

        Raises:
            Forbidden: The agent may not use this scope or action.
            Problem: 400: the scope is ambiguous, or the callback URL is not allowed.
        """
        if asked.action is DsrAction.ACCESS and not agent.is_internal:
            raise Forbidden("ACCESS is for internal use only", "INTERNAL_ONLY")
        async with reading(self._services.ledger) as conn:
            tree = await accounts.tree(conn)
        try:
            account_id = resolved(tree, agent.account, asked.scope)
        except OutOfScope as error:
            raise Forbidden(str(error), "OUT_OF_SCOPE") from None
        except AmbiguousScope as error:
            raise Problem(400, str(error), errorCode="AMBIGUOUS_SCOPE") from None
        if asked.action is DsrAction.ACCESS and asked.callback is not None:
            self._check_callback(asked.callback)
        return account_id

    async def submit(self, agent: Agent, asked: Asked, spend: Spend | None = None) -> str:
        """
        Record a request, and return its transaction id once it is in force.

        `spend` spends the submitter's proof.

        Raises:
            Forbidden, Problem: As for `check`.
            Replayed: The proof was spent before, and its request has long been in force.
            NotInForceYet: The request is recorded, and may be repeated.
        """
        try:
            account_id = await self.check(agent, asked)
        except Forbidden as refused:
            ids = [each.id for each in asked.ids]
            entry = Entry(asked.action.value, refused_because=refused.detail[:128], ids=ids)
            await self._refusals.note(agent.who, entry)
            raise
        if asked.action is DsrAction.ACCESS:
            return await self._note_access(agent, asked, account_id, spend)
        request = await self._record(agent, asked, account_id, spend)
        services = self._services
        receipt = await put_into_force(
            services.ledger, services.redis, [request], wait_s=self._options.opt_out_wait_s
        )
        if asked.action is DsrAction.ERASURE:
            await self._reports.delete_withdrawn()
        if receipt.waits_because:
            raise NotInForceYet(receipt.waits_because, transactionId=request.transaction_id)
        return request.transaction_id

    async def _record(
        self, agent: Agent, asked: Asked, account_id: int | None, spend: Spend | None
    ) -> Request:
        source = OptOutSource(
            agent.who,
            agent.token_id,
            agent.key_id,
            asked.callback,
            _id_to_tail(asked.ids),
            asked.reference,
        )
        async with self._services.ledger.begin() as conn:
            (request,) = await opt_outs.record(
                conn,
                OptOutAction[asked.action.value],
                [[(each.kind, each.id) for each in asked.ids]],
                account_id,
                jurisdiction=asked.jurisdiction,
                submitter=asked.submitter,
                source=source,
                now_s=self._services.now_s(),
            )
            # A spent proof must not prevent the repetition of its own request.
            if spend is not None and not await spend(conn) and request.is_new:
                raise Replayed
        return request

    async def _note_access(
        self, agent: Agent, asked: Asked, account_id: int | None, spend: Spend | None
    ) -> str:
        now_s = self._services.now_s()
        new = NewAccess(
            asked.ids,
            account_id,
            asked.jurisdiction,
            asked.submitter,
            asked.callback,
            agent.token_id,
            agent.key_id,
            asked.reference,
        )
        async with self._services.ledger.begin() as conn:
            transaction_id = await access_requests.add(conn, new, now_s=now_s)
            entry = Entry(
                DsrAction.ACCESS.value,
                ids=[each.id for each in asked.ids],
                scope_id=account_id,
                transaction_id=transaction_id,
            )
            await audit.add(conn, agent.who, [entry], now_s=now_s)
            if spend is not None and not await spend(conn):
                raise Replayed
        self._reports.wake()
        return transaction_id

    def _check_callback(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            host = ""
        if not host or parts.scheme not in ("http", "https"):
            raise Problem(400, "callback is no http:// or https:// URL", errorCode="BAD_CALLBACK")
        if not is_allowed(host, self._options.callback_hosts):
            raise Problem(400, "callback's host is not an allowed one", errorCode="BAD_CALLBACK")


def _id_to_tail(ids: tuple[SubjectId, ...]) -> dict[Id, bytes]:
    # Ids are prefixes. If an MD5 and a SHA-256 start alike (no two addresses do), the longer.
    tails: dict[Id, bytes] = {}
    for each in ids:
        if each.tail is not None and len(each.tail) >= len(tails.get(each.id, b"")):
            tails[each.id] = each.tail
    return tails
