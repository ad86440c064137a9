"""A partner's audiences: which are in bids, and the acts on each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import audiences as acts
from segments.console import charts
from segments.console.application import Page
from segments.console.faults import Lost
from segments.console.formats import day
from segments.console.pages.acting import withdrawn
from segments.console.pages.deliveries import row_of
from segments.console.partner_secret import secret_of
from segments.console.visit import Visit, see_other
from segments.ledger import accounts, audience_counts, recipients
from segments.ledger.activations import Activation, activations_of, is_closed
from segments.ledger.audience_list import (
    ListedAudience,
    listed_audience,
)
from segments.ledger.database.engine import reading
from segments.ledger.job_list import JobFilter, job_page
from segments.model.account import Account, AccountKind
from segments.model.audience import Audience, AudienceState
from segments.model.job import UNFINISHED
from segments.model.partner_numbers import AudienceNumbers, of_audience
from segments.model.record import began_at_s, day_of
from segments.model.refusal import Refusal
from segments.model.role import Role

_LATEST = 10
_WEEK_DAYS = 7
"""How far ahead partners are told of memberships that end."""


class InBids(NamedTuple):
    """Whether bids show an audience, as `parts.state` takes it."""

    kind: str
    icon: str
    word: str


def audience_pages() -> list[Page]:
    """Return the pages."""
    partner = (Role.PARTNER,)
    return [
        Page("GET", "/audiences/new", show_new, partner),
        Page("POST", "/audiences/new", create, partner),
        Page("GET", "/audiences/{no:[0-9]{1,18}}", show, partner),
        Page("POST", "/audiences/{no:[0-9]{1,18}}/rename", rename, partner),
        Page("POST", "/audiences/{no:[0-9]{1,18}}/ttl", set_ttl, partner),
        Page("POST", "/audiences/{no:[0-9]{1,18}}/activate", activate, partner),
        Page("POST", "/audiences/{no:[0-9]{1,18}}/deactivate", deactivate, partner),
        Page("POST", "/audiences/{no:[0-9]{1,18}}/delete", delete, partner),
    ]


async def show(visit: Visit) -> web.Response:
    """Show one audience."""
    return await _page(visit)


async def show_new(visit: Visit) -> web.Response:
    """Show the form of a new audience."""
    return await _new_page(visit)


async def create(visit: Visit) -> web.Response:
    """Create an audience under a segment id of ours."""
    ttl, name = visit.text("ttl"), visit.text("name")
    ttl_days = int(ttl) if ttl.isascii() and ttl.isdecimal() and len(ttl) < _MAX_DIGITS else None
    if ttl and ttl_days is None:
        return await _new_page(visit, "ttl", "A whole number of days, or nothing.")
    try:
        async with visit.console.services.ledger.begin() as conn:
            owner = await _owner(conn, visit)
            partner = await accounts.partner_of(conn, owner)
            made = await acts.create_audience(
                conn, visit.by, owner, partner, name, ttl_days=ttl_days
            )
    except Refusal as refusal:
        return await _new_page(visit, "ttl" if "days" in str(refusal) else "name", str(refusal))
    await visit.console.services.publish_catalog()
    return see_other(f"/audiences/{made.id}", done="created")


async def rename(visit: Visit) -> web.Response:
    """Rename an audience; bids never carry the name."""
    async with visit.console.services.ledger.begin() as conn:
        found = await audience_of_url(conn, visit)
        await acts.rename(conn, visit.by, found.audience, visit.text("name"))
    return saved(found.audience, "saved")


async def set_ttl(visit: Visit) -> web.Response:
    """Set for how long members of future files stay."""
    text = visit.text("ttl")
    if text and not (text.isascii() and text.isdecimal() and len(text) < _MAX_DIGITS):
        raise Refusal("a lifetime is a whole number of days, or nothing")
    async with visit.console.services.ledger.begin() as conn:
        found = await audience_of_url(conn, visit)
        await acts.set_ttl(conn, visit.by, found.audience, int(text) if text else None)
    return saved(found.audience, "saved")


async def activate(visit: Visit) -> web.Response:
    """Show an audience in bids again."""
    async with visit.console.services.ledger.begin() as conn:
        found = await audience_of_url(conn, visit)
        await acts.set_state(conn, visit.by, found.audience, AudienceState.ACTIVE)
    await visit.console.services.publish_catalog()
    return saved(found.audience, "activated")


async def deactivate(visit: Visit) -> web.Response:
    """Hide an audience from bids."""
    async with visit.console.services.ledger.begin() as conn:
        found = await audience_of_url(conn, visit)
        await acts.set_state(conn, visit.by, found.audience, AudienceState.DEACTIVATED)
    return saved(found.audience, await withdrawn(visit, "deactivated"))


async def delete(visit: Visit) -> web.Response:
    """Delete an audience for good, if its name was typed."""
    async with visit.console.services.ledger.begin() as conn:
        found = await audience_of_url(conn, visit)
        if visit.text("name") != found.audience.name.strip():
            raise Refusal("to delete an audience, type its name; that was another")
        await acts.set_state(conn, visit.by, found.audience, AudienceState.DELETED)
    return saved(found.audience, await withdrawn(visit, "deleted"))


def in_bids(
    audience: Audience, granted: int, now_s: float, activated: Sequence[Activation] = ()
) -> InBids:
    """
    Return whether bids show an audience, and to how many recipients.

    `activated` are an audience's activations, if it is shown by these alone.
    """
    if audience.state is AudienceState.DELETED:
        return InBids("", "off", "Deleted")
    if audience.state is AudienceState.DEACTIVATED:
        return InBids("", "off", "Deactivated")
    if is_closed(audience):
        return _by_activations(activated, now_s)
    if audience.live_from_s is not None and audience.live_from_s > now_s:
        return InBids("", "clock", f"From {day(audience.live_from_s).striptags()}")
    if audience.live_until_s is not None and audience.live_until_s <= now_s:
        return InBids("", "off", f"Ended {day(audience.live_until_s).striptags()}")
    return InBids("good", "good", f"Shown to {granted}") if granted else _TO_NONE


def _by_activations(activated: Sequence[Activation], now_s: float) -> InBids:
    live = sum(each.live_from_s <= now_s < each.live_until_s for each in activated)
    if live:
        return InBids("good", "good", f"Shown to {live}")
    to_come = [each.live_from_s for each in activated if each.live_from_s > now_s]
    if to_come:
        return InBids("", "clock", f"From {day(min(to_come)).striptags()}")
    return _TO_NONE


_TO_NONE = InBids("", "off", "Shown to none")
_MAX_DIGITS = 9
_DAYS = 30


async def _page(visit: Visit) -> web.Response:
    async with reading(visit.console.services.ledger) as conn:
        found = await audience_of_url(conn, visit)
        partner = await accounts.partner_of(conn, visit.account)
        granted = await recipients.granted(conn, partner)
        activated = await activations_of(conn, [found.audience.id])
        owner = await accounts.account(conn, found.audience.owner_id)
        wanted = JobFilter(visit.account, audience_id=found.audience.id)
        page = await job_page(conn, wanted, limit=_LATEST)
        counts = await audience_counts.counts_of(conn, found.audience.id, _DAYS)
        partners = {each.id: each for each in await accounts.accounts(conn)}
    secret = await secret_of(visit)
    # Of the days before, ends are not shown: each costs a digest.
    days = [
        of_audience(count if n == 0 else count._replace(ends={}), secret)
        for n, count in enumerate(counts)
    ]
    today = day_of(visit.now_s)
    names = {found.audience.id: found.audience.name}
    return visit.live_page(
        "audience.html",
        visit.request.path,
        is_moving=any(job.state in UNFINISHED for job in page.rows),
        listed=found,
        days=days,
        ends_soon=ends_soon(days[0], today) if days else None,
        members_chart=charts.members_by_day(days),
        ends_chart=charts.ends_by_day(days[0].ends, today) if days else None,
        ends=[(began_at_s(day), some) for day, some in days[0].ends.items()] if days else [],
        audience=found.audience,
        owner=owner,
        partner=partner,
        shown=in_bids(found.audience, len(granted), visit.now_s, activated),
        by_activation=is_closed(found.audience),
        activations={each.recipient_id: each for each in activated},
        last_s=_last_day_s(found.audience.live_until_s),
        granted=granted,
        rows=[row_of(job, names, partners, is_partners=True) for job in page.rows],
        base="/deliveries",
    )


def ends_soon(numbers: AudienceNumbers, today: int) -> int | None:
    """Return how many memberships end within a week; `None`: too few members to tell."""
    if numbers.members is None:
        return None
    return sum(ends_in_a_week(numbers.ends, today).values())


def ends_in_a_week(ends: Mapping[int, int], today: int) -> dict[int, int]:
    """Return the ends, by day, that partners are told of ahead."""
    return {day: some for day, some in ends.items() if today <= day <= today + _WEEK_DAYS}


def _last_day_s(until_s: int | None) -> int | None:
    """Return the last day that a window has at least a part of."""
    return None if until_s is None else until_s - 1


async def _new_page(visit: Visit, wrong_field: str = "", error: str = "") -> web.Response:
    async with reading(visit.console.services.ledger) as conn:
        owners = await _owners(conn, visit.account)
    return visit.page(
        "new_audience.html",
        status=422 if error else 200,
        owners=owners,
        wrong_field=wrong_field,
        error=error[:1].upper() + error[1:],
        name=visit.text("name"),
        ttl=visit.text("ttl"),
    )


async def _owners(conn: AsyncConnection, account: Account) -> list[Account]:
    """Return the accounts whose audiences an account may create."""
    if account.kind is not AccountKind.AGENCY:
        return [account]
    return [each for each in await accounts.accounts(conn) if each.parent_id == account.id]


async def _owner(conn: AsyncConnection, visit: Visit) -> Account:
    owners = await _owners(conn, visit.account)
    if len(owners) == 1:
        return owners[0]
    for owner in owners:
        if owner.public_id == visit.text("owner") and owner.is_active:
            return owner
    raise Refusal("choose one of your accounts for the audience")


async def audience_of_url(conn: AsyncConnection, visit: Visit) -> ListedAudience:
    """Return the audience of the URL, if it is the visitor's."""
    found = await listed_audience(conn, visit.account, int(visit.request.match_info["no"]))
    if found is None:
        raise Lost
    return found


def saved(audience: Audience, done: str) -> web.Response:
    """Go back to an audience's page, which says what was done."""
    return see_other(f"/audiences/{audience.id}", done=done)
