"""The command `audience`: partners' audiences, and when bids show them."""

from datetime import UTC, datetime

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import audiences as acts
from segments.cli.ledger_access import by_command, change, forbid, look
from segments.cli.table import json_option, print_table, utc
from segments.ledger import accounts, audiences
from segments.ledger.audience_counts import last_counts
from segments.ledger.privacy.opt_outs import SAME_FOR_S
from segments.model.account import Account
from segments.model.audience import Audience, AudienceState
from segments.model.audience_count import AudienceCount
from segments.model.refusal import NotFound

_COUNTED_AT_ONCE = 500

_partner = click.option("--partner", "partner_id", required=True, help="The partner's id.")
_sub_id = click.option("--sub-id", help="Id of an agency's sub account.")
_segment = click.argument("segment_id")


@click.group()
def audience() -> None:
    """Manage audiences, each named by a partner's segment id."""


@audience.command("add")
@_segment
@_partner
@_sub_id
@click.option("--name", required=True, help="The partner's name for it; not in bid requests.")
@click.option("--ttl-days", type=int, help="Days that memberships last; default: for good.")
def add_audience(
    segment_id: str, partner_id: str, sub_id: str | None, name: str, ttl_days: int | None
) -> None:
    """Add an audience before its first file; an existing audience takes the name and TTL."""

    async def add(conn: AsyncConnection) -> str:
        partner = await accounts.partner(conn, partner_id)
        owner = await accounts.partner(conn, partner_id, sub_id)
        await acts.add_audience(
            conn, by_command(), owner, partner, segment_id, name, ttl_days=ttl_days
        )
        return f"audience {segment_id} of {owner.public_id} is there"

    change(add)


@audience.command("list")
@click.option("--partner", "partner_id", help="List only this partner's audiences.")
@_sub_id
@json_option
def list_audiences(partner_id: str | None, sub_id: str | None) -> None:
    """
    List audiences, including deleted ones, with their members at the last count.

    The loader counts once a day.
    """
    if sub_id is not None and partner_id is None:
        raise click.UsageError("--sub-id needs --partner")

    async def ask(
        conn: AsyncConnection,
    ) -> tuple[list[Account], list[Audience], dict[int, AudienceCount]]:
        owner = None
        if partner_id is not None:
            owner = await accounts.partner(conn, partner_id, sub_id)
        found = await audiences.audiences(conn, owner)
        counts: dict[int, AudienceCount] = {}
        for at in range(0, len(found), _COUNTED_AT_ONCE):
            ids = [each.id for each in found[at : at + _COUNTED_AT_ONCE]]
            counts |= await last_counts(conn, ids)
        return await accounts.accounts(conn), found, counts

    every_account, found, counts = look(ask)
    id_to_account = {account.id: account for account in every_account}
    print_table(
        (
            "partner",
            "owner",
            "segment",
            "state",
            "from",
            "until",
            "ttl days",
            "name",
            "members",
            "counted",
        ),
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
                None if (count := counts.get(audience.id)) is None else count.members,
                None if count is None else utc(count.counted_at_s),
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
    """Hide an audience; files continue to change it."""
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
@click.option(
    "--from", "live_from", help="Start in ISO 8601, UTC if it has no offset; default: none."
)
@click.option("--until", "live_until", help="End, likewise: the first moment when it is hidden.")
def set_window(
    segment_id: str,
    partner_id: str,
    sub_id: str | None,
    live_from: str | None,
    live_until: str | None,
) -> None:
    """Show an audience only in a window of time."""
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
    """Let memberships of future files last for DAYS; without DAYS, for good."""

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
    """Return an audience; with `or_deleted`, a recently deleted one if there is no other."""
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
