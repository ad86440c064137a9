"""
A partner's own keys and logins, for its admins.

Pages show only the visitor's account; for an agency also the users of its sub accounts. SSH keys
belong to a partner: its sub accounts deliver by them.
"""

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import logins as acts
from segments.acts import orgs as org_acts
from segments.console.application import Page
from segments.console.faults import Lost
from segments.console.formats import sentence
from segments.console.visit import Visit, see_other
from segments.doors.rest.passwords import drawn_password
from segments.doors.rest.problem import Problem
from segments.ledger import accounts, users
from segments.ledger.database.engine import reading
from segments.ledger.external_audience import base_connections, orgs
from segments.ledger.live_audience import ssh_keys
from segments.ledger.live_audience.host_keys import fingerprints
from segments.ledger.users import User
from segments.model.account import Account
from segments.model.refusal import Refusal
from segments.model.role import Role


def partner_admin_pages() -> list[Page]:
    """Return the pages."""
    partner = (Role.PARTNER,)
    return [
        Page("GET", "/keys", show_keys, partner),
        Page("POST", "/keys", add_key, partner),
        Page("POST", "/keys/remove", remove_key, partner),
        Page("POST", "/keys/revoke", revoke_credential, partner),
        Page("GET", "/logins", show_logins, partner),
        Page("POST", "/logins", add_login, partner),
        Page("POST", "/logins/{user}/password", renew_password, partner),
        Page("POST", "/logins/{user}/end", end_sessions, partner),
        Page("POST", "/logins/{user}/revoke", revoke, partner),
    ]


async def show_keys(visit: Visit) -> web.Response:
    """Show the partner's SSH keys, credentials of orgs, and base connections."""
    return await _keys_page(visit)


async def add_key(visit: Visit) -> web.Response:
    """Accept the public keys of a `.pub` file for SFTP."""
    # Imported here: asyncssh takes 15 MB, and keys are added rarely.
    from segments.doors.sftp.public_key import read_public_keys  # noqa: PLC0415

    _check_admin(visit)
    try:
        async with visit.console.services.ledger.begin() as conn:
            partner = await _own_partner(conn, visit)
            for key in read_public_keys(visit.text("public_key").encode(), partner.id):
                await acts.add_ssh_key(conn, visit.by, partner, key)
    except Refusal as refusal:
        return await _keys_page(visit, str(refusal))
    return see_other("/keys", done="saved")


async def remove_key(visit: Visit) -> web.Response:
    """Accept a key no longer; the SFTP door ends its connections."""
    _check_admin(visit)
    async with visit.console.services.ledger.begin() as conn:
        partner = await _own_partner(conn, visit)
        await acts.remove_ssh_key(conn, visit.by, partner, visit.text("fingerprint"))
    return see_other("/keys", done="removed")


async def revoke_credential(visit: Visit) -> web.Response:
    """Revoke the access token of an API key."""
    _check_admin(visit)
    api_key = visit.text("api_key")
    async with visit.console.services.ledger.begin() as conn:
        own = await _own_ids(conn, visit)
        found = {each.api_key: each for each in await orgs.credentials(conn)}.get(api_key)
        if found is None or found.sandbox.account_id not in own:
            raise Lost
        await org_acts.revoke_credential(conn, visit.by, api_key)
    return see_other("/keys", done="removed")


async def show_logins(visit: Visit) -> web.Response:
    """Show the account's users."""
    return await _logins_page(visit)


async def add_login(visit: Visit) -> web.Response:
    """Add a user; the generated password is shown on this answer alone, and must be changed."""
    _check_admin(visit)
    username, password = visit.text("username"), drawn_password()
    try:
        password_hash = await visit.console.services.passwords.hash(password)
        async with visit.console.services.ledger.begin() as conn:
            account = await _chosen_account(conn, visit)
            added = await acts.add_user(
                conn,
                visit.by,
                username,
                account,
                password_hash,
                is_admin=visit.text("admin") == "yes",
                must_change=True,
            )
    except Refusal as refusal:
        return await _logins_page(visit, str(refusal))
    return await _logins_page(visit, drawn=(added.username, password))


async def renew_password(visit: Visit) -> web.Response:
    """Generate another password of a user, which ends the user's logins and lifts a revocation."""
    _check_admin(visit)
    password = drawn_password()
    password_hash = await visit.console.services.passwords.hash(password)
    async with visit.console.services.ledger.begin() as conn:
        found = await _other(conn, visit)
        await acts.set_password(conn, visit.by, found, password_hash, must_change=True)
    return await _logins_page(visit, drawn=(found.username, password))


async def end_sessions(visit: Visit) -> web.Response:
    """End a user's logins."""
    _check_admin(visit)
    async with visit.console.services.ledger.begin() as conn:
        await acts.end_sessions(conn, visit.by, await _other(conn, visit))
    return see_other("/logins", done="saved")


async def revoke(visit: Visit) -> web.Response:
    """Revoke a user's access."""
    _check_admin(visit)
    async with visit.console.services.ledger.begin() as conn:
        await acts.revoke_user(conn, visit.by, await _other(conn, visit))
    return see_other("/logins", done="removed")


def is_admin(visit: Visit) -> bool:
    """Tell whether the visitor manages the account's keys and logins."""
    person = visit.known.person
    return isinstance(person, User) and person.is_admin


def _check_admin(visit: Visit) -> None:
    if not is_admin(visit):
        raise Problem(
            403,
            "This is for an admin of your account, whom another admin or who runs this service"
            " names. Nothing was changed.",
        )


async def _keys_page(visit: Visit, error: str = "") -> web.Response:
    async with reading(visit.console.services.ledger) as conn:
        partner = await accounts.partner_of(conn, visit.account)
        own = await _own_ids(conn, visit)
        is_partners = partner.id == visit.account.id
        keys = await ssh_keys.listed(conn, partner) if is_partners else []
        host_keys = await fingerprints(conn)
        credentials = [
            each for each in await orgs.credentials(conn) if each.sandbox.account_id in own
        ]
        sandboxes = {each.sandbox.id for each in credentials}
        connections = [
            each
            for each in await base_connections.connections(conn)
            if each.sandbox_id in sandboxes
        ]
    return visit.page(
        "keys.html",
        status=422 if error else 200,
        error=sentence(error),
        partner=partner,
        is_partners=is_partners,
        keys=keys,
        host_keys=host_keys,
        credentials=credentials,
        connections=connections,
        is_admin=is_admin(visit),
        typed=visit.text("public_key") if error else "",
    )


async def _logins_page(
    visit: Visit, error: str = "", *, drawn: tuple[str, str] | None = None
) -> web.Response:
    async with reading(visit.console.services.ledger) as conn:
        own = [visit.account, *await accounts.below(conn, visit.account)]
        listed = await users.listed(conn, [each.id for each in own], now_s=visit.now_s)
    return visit.page(
        "logins.html",
        status=422 if error else 200,
        error=sentence(error),
        rows=listed,
        names={each.id: each.name for each in own},
        accounts=own,
        is_admin=is_admin(visit),
        me=visit.known.person.username,
        username=visit.text("username") if error else "",
        drawn=drawn,
    )


async def _own_ids(conn: AsyncConnection, visit: Visit) -> set[int]:
    return {each.id for each in (visit.account, *await accounts.below(conn, visit.account))}


async def _own_partner(conn: AsyncConnection, visit: Visit) -> Account:
    partner = await accounts.partner_of(conn, visit.account)
    if partner.id != visit.account.id:
        raise Refusal(f"SSH keys are of {partner.name}, your partner")
    return partner


async def _chosen_account(conn: AsyncConnection, visit: Visit) -> Account:
    own = [visit.account, *await accounts.below(conn, visit.account)]
    wanted = visit.text("account") or str(visit.account.id)
    for each in own:
        if str(each.id) == wanted:
            return each
    raise Refusal("choose one of your accounts")


async def _other(conn: AsyncConnection, visit: Visit) -> User:
    """Return the URL's user, who is of the visitor's account and not the visitor."""
    found = await users.user_of_public_id(conn, visit.request.match_info["user"])
    if found is None or found.account_id not in await _own_ids(conn, visit):
        raise Lost
    if found.id == visit.known.person.id:
        raise Refusal("your own login is under You")
    return found
