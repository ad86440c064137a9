"""The list of a partner's audiences."""

from typing import NamedTuple

from aiohttp import web

from segments.console.application import Page
from segments.console.pages.audiences import InBids, in_bids, secret_of
from segments.console.visit import Visit
from segments.ledger import accounts, audience_counts, recipients
from segments.ledger.audience_list import AudienceFilter, ListedAudience, audience_page
from segments.ledger.database.engine import reading
from segments.ledger.job_list import last_jobs
from segments.ledger.pages import DEFAULT_LIMIT
from segments.model.account import AccountKind
from segments.model.audience import AudienceState
from segments.model.audience_count import AudienceCount
from segments.model.job import UNFINISHED, Job
from segments.model.partner_numbers import AudienceNumbers, of_audience
from segments.model.role import Role

_TABS = {
    "": ("All", (AudienceState.ACTIVE, AudienceState.DEACTIVATED)),
    "active": ("Active", (AudienceState.ACTIVE,)),
    "deactivated": ("Deactivated", (AudienceState.DEACTIVATED,)),
    "deleted": ("Deleted", (AudienceState.DELETED,)),
}


class ListRow(NamedTuple):
    """An audience of the list."""

    listed: ListedAudience
    shown: InBids
    job: Job | None  # the last
    numbers: AudienceNumbers | None


class Listing(NamedTuple):
    """A page of the list."""

    rows: list[ListRow]
    next_cursor: str | None
    granted: int  # recipients
    owners: dict[int, str]  # names of accounts


def audience_list_pages() -> list[Page]:
    """Return the pages."""
    return [Page("GET", "/audiences", show_all, (Role.PARTNER,))]


async def listing(visit: Visit, cursor: str | None, limit: int = DEFAULT_LIMIT) -> Listing:
    """Return a page of the list that the URL asks for."""
    _, states = _TABS.get(visit.request.query.get("state", ""), _TABS[""])
    text = visit.request.query.get("q", "").strip()
    async with reading(visit.console.services.ledger) as conn:
        wanted = AudienceFilter(visit.account, states, text)
        page = await audience_page(conn, wanted, limit=limit, cursor=cursor)
        last = await last_jobs(conn, [each.audience.id for each in page.rows])
        partner = await accounts.partner_of(conn, visit.account)
        granted = len(await recipients.granted(conn, partner))
        owners = {each.id: each.name for each in await accounts.accounts(conn)}
        counts = await audience_counts.last_counts(conn, [each.audience.id for each in page.rows])
    secret = await secret_of(visit)
    rows = [
        ListRow(
            each,
            in_bids(each.audience, granted, visit.now_s),
            last.get(each.audience.id),
            _numbers(counts.get(each.audience.id), secret),
        )
        for each in page.rows
    ]
    return Listing(rows, page.next_cursor, granted, owners)


async def show_all(visit: Visit) -> web.Response:
    """Show a page of the list."""
    query = visit.request.query
    tab, text = query.get("state", ""), query.get("q", "").strip()
    found = await listing(visit, query.get("cursor"))
    return visit.live_page(
        "audiences.html",
        str(visit.request.rel_url),
        is_moving=any(row.job is not None and row.job.state in UNFINISHED for row in found.rows),
        rows=found.rows,
        next_cursor=found.next_cursor,
        tabs=[(name, word) for name, (word, _) in _TABS.items()],
        tab=tab,
        text=text,
        granted=found.granted,
        owners=found.owners if visit.account.kind is AccountKind.AGENCY else {},
        is_filtered=bool(tab or text),
    )


def _numbers(count: AudienceCount | None, secret: bytes) -> AudienceNumbers | None:
    return None if count is None else of_audience(count, secret)
