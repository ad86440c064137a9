"""
When and to whom bids show an audience: days, in UTC, of which the last counts.

    every recipient that is granted     the audience's own window
    one recipient, by an activation     audiences of the CRM door, which are closed otherwise
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from segments.acts import activations as activation_acts
from segments.acts import audiences as acts
from segments.console.application import Page
from segments.console.pages.acting import withdrawn
from segments.console.pages.audiences import audience_of_url, saved
from segments.console.visit import Visit
from segments.ledger import accounts, activations, recipients
from segments.ledger.activations import Activation
from segments.model.audience import AudienceState
from segments.model.day import S_PER_DAY
from segments.model.refusal import Refusal
from segments.model.role import Role

_AT: Final = "/audiences/{no:[0-9]{1,18}}"


def audience_window_pages() -> list[Page]:
    """Return the pages."""
    partner = (Role.PARTNER,)
    return [
        Page("POST", f"{_AT}/window", set_window, partner),
        Page("POST", f"{_AT}/activation", activate, partner),
        Page("POST", f"{_AT}/activation/end", end, partner),
    ]


async def set_window(visit: Visit) -> web.Response:
    """Set the days on which bids show an audience."""
    async with visit.console.services.ledger.begin() as conn:
        found = await audience_of_url(conn, visit)
        from_s, until_s = _day(visit, "from"), _day(visit, "until")
        last_s = None if until_s is None else until_s + S_PER_DAY
        if activations.is_closed(found.audience):
            raise Refusal("this audience is shown by its activations: set the days of one")
        await acts.set_window(conn, visit.by, found.audience, from_s, last_s)
    return saved(found.audience, await withdrawn(visit, "saved"))


async def activate(visit: Visit) -> web.Response:
    """Show an audience to a recipient on some days, or on others than before."""

    def typed(_: Activation | None) -> tuple[int, int]:
        from_s, until_s = _day(visit, "from"), _day(visit, "until")
        if from_s is None or until_s is None:
            raise Refusal("say the first and the last day of the activation")
        return from_s, until_s + S_PER_DAY

    return await _activated(visit, typed)


async def end(visit: Visit) -> web.Response:
    """Show an audience to a recipient no more."""
    now_s = int(visit.now_s)

    def ended(before: Activation | None) -> tuple[int, int]:
        if before is None:
            raise Refusal("it is not activated for that recipient")
        return min(before.live_from_s, now_s - 1), min(before.live_until_s, now_s)

    return await _activated(visit, ended)


async def _activated(
    visit: Visit, window: Callable[[Activation | None], tuple[int, int]]
) -> web.Response:
    """Put an activation's window in place of that before."""
    name = visit.text("recipient")
    async with visit.console.services.ledger.begin() as conn:
        found = await audience_of_url(conn, visit)
        audience = found.audience
        if audience.state is AudienceState.DELETED or not activations.is_closed(audience):
            raise Refusal("this audience is deleted, or shown to all recipients that are granted")
        partner = await accounts.account(conn, audience.partner_id)
        known = {each.name: each for each in await recipients.granted(conn, partner)}
        if name not in known:
            raise Refusal("choose a recipient of the list")
        recipient = known[name]
        ours = await activations.activations_of(conn, [audience.id])
        before = next((each for each in ours if each.recipient_id == recipient.id), None)
        from_s, until_s = window(before)
        await activation_acts.activate(
            conn,
            visit.by,
            audience,
            recipient,
            name=audience.name if before is None else before.name,
            description=None if before is None else before.description,
            live_from_s=from_s,
            live_until_s=until_s,
        )
    return saved(audience, await withdrawn(visit, "saved"))


def _day(visit: Visit, name: str) -> int | None:
    """
    Return the beginning of a day that was typed; `None`: none was.

    Raises:
        Refusal: It is no day.
    """
    text = visit.text(name)
    if not text:
        return None
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise Refusal("a day is such as 2026-11-29") from None
