"""The visitor's own page: name, password, time zone."""

from aiohttp import web

from segments.acts import logins
from segments.acts import staff as acts
from segments.console.application import Page
from segments.console.visit import Visit, see_other
from segments.console.zones import UTC_NAME, is_zone, zone_names
from segments.doors.rest.passwords import MIN_CHARS
from segments.doors.rest.problem import Problem
from segments.ledger.staff import Staff
from segments.model.refusal import Refusal

_WRONG = "That is not your present password."
_UNLIKE = "The two new passwords differ."


def account_pages() -> list[Page]:
    """Return the pages."""
    return [
        Page("GET", "/account", show),
        Page("POST", "/account/password", set_password),
        Page("POST", "/account/time-zone", set_time_zone),
    ]


async def show(visit: Visit) -> web.Response:
    """Show who the visitor is."""
    return _page(visit)


async def set_password(visit: Visit) -> web.Response:
    """Set another password, which ends all sessions of the visitor."""
    services, person = visit.console.services, visit.known.person
    present, new, again = (visit.form.get(each, "") for each in ("present", "new", "again"))
    if new != again:
        return _page(visit, wrong_field="again", error=_UNLIKE)
    source = services.source_of(visit.request)
    try:
        proof = await visit.console.guesses.check(
            person.username, str(present), source, person.password_hash
        )
    except Problem as problem:
        wait_s = problem.headers.get("Retry-After", "30")
        return _page(visit, wrong_field="present", error=f"Too many tries: again in {wait_s} s.")
    if proof is None:
        return _page(visit, wrong_field="present", error=_WRONG)
    try:
        password_hash = await services.passwords.hash(str(new))
    except Refusal as refusal:
        return _page(visit, wrong_field="new", error=f"{str(refusal).capitalize()}.")
    async with services.ledger.begin() as conn:
        await visit.console.guesses.settle(conn, proof)
        if isinstance(person, Staff):
            await acts.set_password(conn, visit.by, person, password_hash, forgets_code=False)
        else:
            await logins.set_password(conn, visit.by, person, password_hash)
    answer = see_other("/login", done="password")
    visit.console.cookie.take(answer)
    return answer


async def set_time_zone(visit: Visit) -> web.Response:
    """Set the zone in which the visitor reads times."""
    name = visit.text("zone")
    if not is_zone(name):
        raise Refusal("choose a zone of the list")
    async with visit.console.services.ledger.begin() as conn:
        chosen = None if name == UTC_NAME else name
        await acts.set_time_zone(conn, visit.by, visit.known.person, chosen)
    return see_other("/account", done="zone")


def _page(visit: Visit, *, wrong_field: str = "", error: str = "") -> web.Response:
    return visit.page(
        "account.html",
        status=422 if error else 200,
        wrong_field=wrong_field,
        error=error,
        min_chars=MIN_CHARS,
        zones=zone_names(),
    )
