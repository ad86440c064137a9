"""
Reading for partners, beside the vendors' APIs.

    GET /deliveries                     files by whatever door they came, newest first
    GET /deliveries/{transactionId}     one of them: stages, bad lines by reason, what to do
    GET /recipients                     the recipients that see the partner's segments
    GET /audit                          acts on the partner's own objects

Pages have a cursor: `next` of an answer is `cursor` of the request for the next. No number
tells whether a person has opted out: see `segments.model.partner_numbers`.
"""

from segments.doors.partner_api.schemas import (
    AuditEntries,
    AuditQuery,
    Deliveries,
    DeliveriesQuery,
    DeliveryInFull,
    ListQuery,
    Moment,
    Recipients,
    TransactionPath,
    audit_entry,
    delivery,
    delivery_in_full,
    recipient,
)
from segments.doors.rest.auth import Caller, Scheme
from segments.doors.rest.door import Door, operation
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.ledger import accounts, recipients
from segments.ledger.audience_list import listed_audience
from segments.ledger.database.engine import reading
from segments.ledger.job_list import JobFilter, job_of_account, job_page
from segments.ledger.pages import page_of, text_after
from segments.ledger.privacy.audit_list import AuditFilter, audit_page
from segments.model.refusal import Refusal

_RECIPIENTS = "recipients"


class PartnerDoor(Door):
    """A partner's deliveries, recipients and trail."""

    tag = "Deliveries"

    def __init__(self, services: Services, schemes: tuple[Scheme, ...]) -> None:
        self.schemes = schemes
        self._services = services

    @operation("GET", "/deliveries", answers={200: Deliveries}, problems=(404,))
    async def deliveries(self, *, caller: Caller, query: DeliveriesQuery) -> Deliveries:
        """List deliveries, newest first, by whatever door they came."""
        wanted = JobFilter(
            caller.account,
            query.state,
            query.audience,
            _seconds(query.since),
            _seconds(query.until),
            query.q or "",
        )
        try:
            async with reading(self._services.ledger) as conn:
                if query.audience is not None:
                    found = await listed_audience(conn, caller.account, query.audience)
                    if found is None:
                        raise Problem(404, "you have no audience of this number")
                page = await job_page(conn, wanted, limit=query.limit, cursor=query.cursor)
        except Refusal as refusal:
            raise Problem(400, f"query {refusal}") from None
        return Deliveries(items=[delivery(job) for job in page.rows], next=page.next_cursor)

    @operation("GET", "/deliveries/{transactionId}", answers={200: DeliveryInFull}, problems=(404,))
    async def delivery(self, *, caller: Caller, path: TransactionPath) -> DeliveryInFull:
        """Show the state of a delivery, its bad lines by reason, and what to do."""
        async with reading(self._services.ledger) as conn:
            job = await job_of_account(conn, caller.account, path.transactionId)
        if job is None:
            raise Problem(404, "you have no delivery of this transaction id")
        return delivery_in_full(job)

    @operation("GET", "/recipients", answers={200: Recipients})
    async def recipients(self, *, caller: Caller, query: ListQuery) -> Recipients:
        """List the recipients that an operator has granted the partner's segments, by name."""
        try:
            after = text_after(_RECIPIENTS, query.cursor)
        except Refusal as refusal:
            raise Problem(400, f"query {refusal}") from None
        async with reading(self._services.ledger) as conn:
            partner = await accounts.partner_of(conn, caller.account)
            granted = await recipients.granted(conn, partner)
        found = sorted(granted, key=lambda each: each.name)
        if after is not None:
            found = [each for each in found if each.name > after]
        found = found[: query.limit + 1]
        page = page_of(_RECIPIENTS, found, [each.name for each in found], query.limit)
        return Recipients(items=[recipient(each) for each in page.rows], next=page.next_cursor)

    @operation("GET", "/audit", answers={200: AuditEntries})
    async def audit(self, *, caller: Caller, query: AuditQuery) -> AuditEntries:
        """
        List acts on the partner's own objects, newest first.

        Requests of data subjects are not among them.
        """
        wanted = AuditFilter(
            caller.account,
            query.actor,
            query.what,
            query.result,
            _seconds(query.since),
            _seconds(query.until),
        )
        try:
            async with reading(self._services.ledger) as conn:
                page = await audit_page(conn, wanted, limit=query.limit, cursor=query.cursor)
        except Refusal as refusal:
            raise Problem(400, f"query {refusal}") from None
        entries = [audit_entry(entry, caller.account.id) for entry in page.rows]
        return AuditEntries(items=entries, next=page.next_cursor)


def _seconds(moment: Moment | None) -> float | None:
    return None if moment is None else moment.timestamp()
