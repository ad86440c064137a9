"""
The list of a partner's audiences, and above it the one thing to do first about those of its page.

    ends     half of the members or more leave within a week, unless they are delivered again
    failed   the last file
    held     the last file
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aiohttp import web
from markupsafe import Markup

from segments.console import charts
from segments.console.application import Page
from segments.console.pages.audiences import (
    InBids,
    ends_in_a_week,
    ends_soon,
    in_bids,
)
from segments.console.partner_secret import secret_of
from segments.console.visit import Visit
from segments.ledger import accounts, audience_counts, recipients
from segments.ledger.activations import activations_of, is_closed
from segments.ledger.audience_list import (
    AudienceFilter,
    ListedAudience,
    audience_page,
    count_by_state,
)
from segments.ledger.database.engine import reading
from segments.ledger.job_list import last_jobs
from segments.ledger.pages import DEFAULT_LIMIT
from segments.model.account import AccountKind
from segments.model.audience import AudienceState
from segments.model.audience_count import AudienceCount
from segments.model.day import S_PER_DAY
from segments.model.job import UNFINISHED, Job, JobState
from segments.model.partner_numbers import (
    AudienceNumbers,
    gains_and_losses,
    members_of,
    of_audience,
)
from segments.model.record import began_at_s, day_of
from segments.model.role import Role

_TABS = {
    "": ("All", (AudienceState.ACTIVE, AudienceState.DEACTIVATED)),
    "active": ("Active", (AudienceState.ACTIVE,)),
    "deactivated": ("Deactivated", (AudienceState.DEACTIVATED,)),
    "deleted": ("Deleted", (AudienceState.DELETED,)),
}


_DAYS = 30
_MANY_END = 0.02
"""The share of members from which on their end is marked."""

_MOST_END = 0.5
_STOPS = (JobState.FAILED, JobState.HELD)


class ListRow(NamedTuple):
    """An audience of the list."""

    listed: ListedAudience
    shown: InBids
    job: Job | None  # the last
    numbers: AudienceNumbers | None
    ends_soon: int | None  # of the members, within a week; `None`: too few to tell

    @property
    def share_that_ends(self) -> float:
        """The share of members that leave within a week, 0 to about 1."""
        members = self.numbers.members if self.numbers is not None else None
        return (self.ends_soon or 0) / members if members else 0.0

    @property
    def many_end(self) -> bool:
        """Whether so many leave soon that it is marked."""
        return self.share_that_ends >= _MANY_END


class Course(NamedTuple):
    """An audience's members in 30 days."""

    spark: Markup | None
    gained: int
    lost: int


class Trouble(NamedTuple):
    """What to do first."""

    kind: str  # ends, failed, held
    row: ListRow
    last_s: float = 0.0  # the day of the last who leave within a week
    quiet_days: int = 0  # since the last delivery


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
        ids = [each.audience.id for each in page.rows]
        counts = await audience_counts.last_counts(conn, ids)
        closed = [each.audience.id for each in page.rows if is_closed(each.audience)]
        activated = await activations_of(conn, closed) if closed else []
    secret, today = await secret_of(visit), day_of(visit.now_s)
    rows = [
        _row(
            each,
            in_bids(
                each.audience,
                granted,
                visit.now_s,
                [one for one in activated if one.audience_id == each.audience.id],
            ),
            last.get(each.audience.id),
            _numbers(counts.get(each.audience.id), secret, today),
            today,
        )
        for each in page.rows
    ]
    return Listing(rows, page.next_cursor, granted, owners)


async def show_all(visit: Visit) -> web.Response:
    """Show a page of the list."""
    query = visit.request.query
    tab, text = query.get("state", ""), query.get("q", "").strip()
    found = await listing(visit, query.get("cursor"))
    ids = [row.listed.audience.id for row in found.rows]
    async with reading(visit.console.services.ledger) as conn:
        first_day = day_of(visit.now_s) - _DAYS
        members = await audience_counts.members_since(conn, ids, first_day)
        counts = await count_by_state(conn, visit.account)
    secret = await secret_of(visit)
    return visit.live_page(
        "audiences.html",
        str(visit.request.rel_url),
        is_moving=any(row.job is not None and row.job.state in UNFINISHED for row in found.rows),
        rows=found.rows,
        courses={id_: _course(id_, members.get(id_, ()), secret) for id_ in ids},
        next_cursor=found.next_cursor,
        tabs=[
            (name, word, sum(counts.get(state, 0) for state in states))
            for name, (word, states) in _TABS.items()
        ],
        total=sum(counts.values()),
        trouble=worst(found.rows, visit.now_s),
        counted_at_s=max(
            (row.numbers.counted_at_s for row in found.rows if row.numbers), default=None
        ),
        tab=tab,
        text=text,
        granted=found.granted,
        owners=found.owners if visit.account.kind is AccountKind.AGENCY else {},
        is_filtered=bool(tab or text),
    )


def worst(rows: Iterable[ListRow], now_s: float) -> Trouble | None:
    """Return what to do first; `None`: nothing."""
    active = [row for row in rows if row.listed.audience.state is AudienceState.ACTIVE]
    ending = max(active, key=lambda row: row.share_that_ends, default=None)
    if ending is not None and ending.share_that_ends >= _MOST_END and ending.numbers is not None:
        last = max(ending.numbers.ends)
        since_s = now_s if ending.job is None else ending.job.created_at_s
        quiet_days = int((now_s - since_s) // S_PER_DAY)
        return Trouble("ends", ending, began_at_s(last), quiet_days)
    for state in _STOPS:
        for row in active:
            if row.job is not None and row.job.state is state:
                return Trouble(state.value, row)
    return None


def _row(
    listed: ListedAudience,
    shown: InBids,
    job: Job | None,
    numbers: AudienceNumbers | None,
    today: int,
) -> ListRow:
    ends = None if numbers is None else ends_soon(numbers, today)
    return ListRow(listed, shown, job, numbers, ends)


def _course(audience_id: int, members: Sequence[tuple[int, int]], secret: bytes) -> Course:
    """Return a course in partners' numbers, by exact members of days."""
    told = [
        number
        for day, exact in members
        if (number := members_of(audience_id, day, exact, secret)) is not None
    ]
    spark = charts.sparkline(told, "Members by day, in the last 30 days")
    return Course(spark, *gains_and_losses(told))


def _numbers(count: AudienceCount | None, secret: bytes, today: int) -> AudienceNumbers | None:
    if count is None:
        return None
    # Later ends are not shown: each costs a digest.
    return of_audience(count._replace(ends=ends_in_a_week(count.ends, today)), secret)
