"""The command `audience`: what each partner calls by a segment id, and when it is shown."""

from datetime import UTC, datetime

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import audiences as acts
from segments.cli.ledger_access import by_command, change, forbid, look, print_table
from segments.ledger import accounts, audiences
from segments.ledger.privacy.opt_outs import SAME_FOR_S
from segments.model.account import Account
from segments.model.audience import Audience, AudienceState
from segments.model.refusal import NotFound

_partner = click.option("--partner", "partner_id", required=True, help="The partner's id.")
_sub_id = click.option("--sub-id", help="The sub account of an agency.")
_segment = click.argument("segment_id")


@click.group()
def audience() -> None:
    """Audiences: what a partner calls by a segment id."""


@audience.command("add")
@_segment
@_partner
@_sub_id
@click.option("--name", required=True, help="As the partner calls it; not in bid requests.")
@click.option("--ttl-days", type=int, help="How long memberships hold; default: for good.")
def add_audience(
    segment_id: str, partner_id: str, sub_id: str | None, name: str, ttl_days: int | None
) -> None:
    """Add an audience before its first file does; one that exists takes on what is given."""

    async def add(conn: AsyncConnection) -> str:
        partner = await accounts.partner(conn, partner_id)
        owner = await accounts.partner(conn, partner_id, sub_id)
        await acts.add_audience(
            conn, by_command(), owner, partner, segment_id, name, ttl_days=ttl_days
        )
        return f"audience {segment_id} of {owner.public_id} is there"

    change(add)


@audience.command("list")
@click.option("--partner", "partner_id", help="Only this partner's.")
@_sub_id
def list_audiences(partner_id: str | None, sub_id: str | None) -> None:
    """List audiences, the deleted ones too."""
    if sub_id is not None and partner_id is None:
        raise click.UsageError("--sub-id needs --partner")

    async def ask(conn: AsyncConnection) -> tuple[list[Account], list[Audience]]:
        owner = None
        if partner_id is not None:
            owner = await accounts.partner(conn, partner_id, sub_id)
        return await accounts.accounts(conn), await audiences.audiences(conn, owner)

    every_account, found = look(ask)
    id_to_account = {account.id: account for account in every_account}
    print_table(
        ("partner", "owner", "segment", "state", "from", "until", "ttl days", "name"),
        (
            (
                id_to_account[audience.partner_id].public_id,
                id_to_account[audience.owner_id].public_id,
                audience.segment_id,
                audience.state.value,
                _moment(audience.live_from_s),
                _moment(audience.live_until_s),
                audience.ttl_days,
                audience.name,
            )
            for audience in found
        ),
    )


@audience.command("activate")
@_segment
@_partner
@_sub_id
def activate_audience(segment_id: str, partner_id: str, sub_id: str | None) -> None:
    """Show an audience in bid requests again."""
    _set_state(segment_id, partner_id, sub_id, AudienceState.ACTIVE)


@audience.command("deactivate")
@_segment
@_partner
@_sub_id
def deactivate_audience(segment_id: str, partner_id: str, sub_id: str | None) -> None:
    """Hide an audience; files go on changing it."""
    _set_state(segment_id, partner_id, sub_id, AudienceState.DEACTIVATED)


@audience.command("delete")
@_segment
@_partner
@_sub_id
@click.confirmation_option(prompt="Its memberships can't be brought back. Delete it?")
def delete_audience(segment_id: str, partner_id: str, sub_id: str | None) -> None:
    """Delete an audience for good."""
    _set_state(segment_id, partner_id, sub_id, AudienceState.DELETED)


@audience.command("window")
@_segment
@_partner
@_sub_id
@click.option("--from", "live_from", help="ISO 8601, in UTC if it says no offset; default: ever.")
@click.option("--until", "live_until", help="Likewise; the first moment it is not shown.")
def set_window(
    segment_id: str,
    partner_id: str,
    sub_id: str | None,
    live_from: str | None,
    live_until: str | None,
) -> None:
    """Show an audience from one moment until another."""
    from_s, until_s = _unix_s("--from", live_from), _unix_s("--until", live_until)

    async def set_both(conn: AsyncConnection) -> str:
        found = await _audience(conn, segment_id, partner_id, sub_id)
        await acts.set_window(conn, by_command(), found, from_s, until_s)
        begin, end = _moment(from_s) or "now", _moment(until_s) or "further notice"
        return f"audience {segment_id} is shown from {begin} until {end}"

    forbid(set_both)


@audience.command("ttl")
@_segment
@click.argument("days", type=int, required=False)
@_partner
@_sub_id
def set_ttl(segment_id: str, days: int | None, partner_id: str, sub_id: str | None) -> None:
    """Let the memberships of files to come hold for DAYS; without it, for good."""

    async def set_it(conn: AsyncConnection) -> str:
        found = await _audience(conn, segment_id, partner_id, sub_id)
        await acts.set_ttl(conn, by_command(), found, days)
        return f"memberships of audience {segment_id} hold {f'{days} days' if days else 'for good'}"

    change(set_it)


def _set_state(segment_id: str, partner_id: str, sub_id: str | None, state: AudienceState) -> None:
    async def set_it(conn: AsyncConnection) -> str:
        is_deletion = state is AudienceState.DELETED
        found = await _audience(conn, segment_id, partner_id, sub_id, or_deleted=is_deletion)
        await acts.set_state(conn, by_command(), found, state)
        return f"audience {segment_id} is {state.value}"

    (change if state is AudienceState.ACTIVE else forbid)(set_it)


async def _audience(
    conn: AsyncConnection,
    segment_id: str,
    partner_id: str,
    sub_id: str | None,
    *,
    or_deleted: bool = False,
) -> Audience:
    """Return an audience; `or_deleted`: one that was deleted just before, if there is no other."""
    owner = await accounts.partner(conn, partner_id, sub_id)
    found = await audiences.find_audience(conn, owner, segment_id)
    if found is None and or_deleted:
        since_s = by_command().now_s - SAME_FOR_S
        found = await audiences.deleted_audience(conn, owner, segment_id, since_s=since_s)
    if found is None:
        raise NotFound(f"{owner.public_id} has no audience {segment_id}")
    return found


def _unix_s(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text} is not a date or time in ISO 8601", param_hint=option
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _moment(at_s: int | None) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat()
