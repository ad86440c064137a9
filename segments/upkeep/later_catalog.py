"""
Compares a restored ledger with the later catalog in its store: lists losses, repeats restrictions.

The ledger must show no more than the store's catalog, the last in force: audiences that this lacks
are deleted, audiences that it hides are hidden, its windows of time apply. Its relations, which
extend opt-outs' reach, are restored; its grants and other permissions are not. Audiences made since
the restore stay; with a lost audience's number, without members.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import accounts, activations, audiences, recipient_tokens, recipients
from segments.ledger.recipients import Recipient
from segments.ledger.revision import name_of, revision
from segments.model.account import Account
from segments.model.audience import Audience, AudienceState
from segments.model.catalog import AccountEntry, AudienceEntry, CatalogSnapshot, RecipientEntry
from segments.store.reader import Whose


class Beside:
    """A store's catalog and our ledger's counterparts, in a single transaction."""

    def __init__(
        self, catalog: CatalogSnapshot, ours: list[Account], our_audiences: list[Audience]
    ) -> None:
        self.catalog = catalog
        self.number_to_account = {account.id: account for account in ours}
        self.number_to_audience = {audience.id: audience for audience in our_audiences}
        self.same_accounts = {
            entry.id
            for entry in catalog.accounts
            if _is_same(entry, self.number_to_account.get(entry.id))
        }
        """Numbers that mean the same account in both."""
        self.same_audiences = {
            entry.id
            for entry in catalog.audiences
            if _is_same_audience(entry, self.number_to_audience.get(entry.id))
        }
        """Numbers that mean the same audience in both."""

    def lost_audiences(self, whose: Whose) -> list[int]:
        """Return numbers that may have members in the store, but no meaning in the ledger."""
        theirs = {entry.id for entry in self.catalog.audiences}
        return [
            number
            for number in range(1, whose.last_audience + 1)
            if number not in self.number_to_audience
            or (number in theirs and number not in self.same_audiences)
        ]


async def read_beside(conn: AsyncConnection, catalog: CatalogSnapshot) -> Beside:
    """Read the ledger's counterparts of a store's catalog."""
    return Beside(catalog, await accounts.accounts(conn), await audiences.audiences(conn))


async def gone(conn: AsyncConnection, both: Beside, lost_jobs: Collection[int]) -> tuple[str, ...]:
    """List everything that only the store knows."""
    names = {entry.id: entry.public_id for entry in both.catalog.accounts}
    lines = [
        f"account {entry.id}: {entry.kind} {entry.public_id}"
        for entry in both.catalog.accounts
        if entry.id not in both.same_accounts
    ]
    lines += [
        f"relation: publisher {entry.public_id} and {names.get(number, '?')}"
        for entry in both.catalog.accounts
        for number in entry.related_ids
        if not {entry.id, number} <= both.same_accounts
    ]
    lines += [
        f"audience {entry.id}: segment {entry.segment_id} of {names.get(entry.owner_id, '?')}"
        for entry in both.catalog.audiences
        if entry.id not in both.same_audiences
    ]
    named = {recipient.name: recipient for recipient in await recipients.recipients(conn)}
    lines += [
        f"recipient {entry.id}: {entry.name}"
        for entry in both.catalog.recipients
        if entry.name not in named
    ]
    digests = await recipient_tokens.good_digests(conn)
    lines += [
        f"a token of recipient {entry.name}: issue another"
        for entry in both.catalog.recipients
        if entry.name in named
        for digest in entry.tokens or ()
        if digest not in digests.get(named[entry.name].id, ())
    ]
    ours = {(each.recipient_id, each.audience_id) for each in await activations.activations(conn)}
    lines += [
        f"activation: audience {activation.audience_id} for recipient {entry.name}"
        for entry in both.catalog.recipients
        for activation in entry.activations
        if activation.audience_id not in both.same_audiences
        or entry.name not in named
        or (named[entry.name].id, activation.audience_id) not in ours
    ]
    return (*lines, *(f"job {number}" for number in lost_jobs))


async def is_of_later(conn: AsyncConnection, catalog: CatalogSnapshot, whose: Whose) -> bool:
    """Tell whether the store's catalog is later than this ledger's."""
    if not catalog.version:
        return False  # deleted by a rebuild: says nothing
    if catalog.version > await revision(conn):
        return True
    name = whose.last_revision_name
    return bool(name) and await name_of(conn, whose.last_revision) != name


async def forbid_again(
    conn: AsyncConnection, both: Beside, whose: Whose, *, now_s: float
) -> tuple[str, ...]:
    """
    Restrict the ledger to a later catalog's visibility, and restore the reach of its opt-outs.

    `conn` is a transaction that holds the catalog lock. Returns the changes, in words.
    """
    return (
        *await _of_audiences(conn, both, whose, now_s),
        *await _of_accounts(conn, both),
        *await _of_recipients(conn, both, now_s),
    )


async def _of_audiences(
    conn: AsyncConnection, both: Beside, whose: Whose, now_s: float
) -> list[str]:
    said: list[str] = []
    shown = {entry.id: entry for entry in both.catalog.audiences}
    for audience in both.number_to_audience.values():
        entry = shown.get(audience.id)
        is_new = audience.id > whose.last_audience  # made since the restore
        if audience.state is AudienceState.DELETED or is_new:
            continue
        what = f"audience {audience.id} (segment {audience.segment_id})"
        state: AudienceState = audience.state
        if entry is None:
            state = AudienceState.DELETED
        elif entry.id not in both.same_audiences:
            continue
        elif not entry.is_active:
            state = AudienceState.DEACTIVATED
        if state is not audience.state:
            await audiences.set_state(conn, audience, state, now_s=now_s)
            said.append(f"{what}: {state.value}")
        if entry is not None and _window(entry) != _window(audience):
            await audiences.set_window(conn, audience, *_window(entry), now_s=now_s)
            said.append(f"{what}: {_in_words(entry)}")
    return said


async def _of_accounts(conn: AsyncConnection, both: Beside) -> list[str]:
    said: list[str] = []
    related = set(await accounts.relations(conn))
    for entry in both.catalog.accounts:
        if entry.id not in both.same_accounts:
            continue
        account = both.number_to_account[entry.id]
        if account.is_active and not entry.is_active:
            await accounts.set_account_active(conn, account, False)
            said.append(f"account {account.public_id}: deactivated")
        # Ended relations are restored: opt-outs reach no less.
        for number in entry.related_ids:
            if number in both.same_accounts and (account.id, number) not in related:
                other = both.number_to_account[number]
                await accounts.relate(conn, account, other)
                said.append(f"publisher {account.public_id}: related to {other.public_id}")
    return said


async def _of_recipients(conn: AsyncConnection, both: Beside, now_s: float) -> list[str]:
    said: list[str] = []
    held = {
        (each.recipient_id, each.audience_id): each for each in await activations.activations(conn)
    }
    shown = {(entry.id, entry.name): entry for entry in both.catalog.recipients}
    for recipient in await recipients.recipients(conn):
        entry = shown.get((recipient.id, recipient.name))
        if entry is None:
            continue
        what = f"recipient {recipient.name}"
        if recipient.is_active and not entry.is_active:
            await recipients.set_recipient_active(conn, recipient, False)
            said.append(f"{what}: deactivated")
        for number in sorted(set(recipient.partner_ids) - set(entry.partner_ids)):
            await recipients.revoke(conn, recipient, both.number_to_account[number])
            said.append(f"{what}: no grant of {both.number_to_account[number].public_id}")
        if entry.hold_out > recipient.hold_out:
            await recipients.set_hold_out(conn, recipient, entry.hold_out)
            said.append(f"{what}: holds out {entry.hold_out:g}")
        said += await _of_access(conn, recipient, entry, now_s)
        for seen in entry.activations:
            ours = held.get((recipient.id, seen.audience_id))
            if ours is None or seen.audience_id not in both.same_audiences:
                continue
            if _window(seen) != _window(ours):
                await activations.move(conn, ours, seen.live_from_s, seen.live_until_s, now_s=now_s)
                said.append(f"{what}: audience {seen.audience_id} {_in_words(seen)}")
    return said


async def _of_access(
    conn: AsyncConnection, recipient: Recipient, entry: RecipientEntry, now_s: float
) -> list[str]:
    """Require credentials again, and revoke again; lost tokens stay lost."""
    said: list[str] = []
    what = f"recipient {recipient.name}"
    if entry.certificates is not None and entry.certificates != recipient.certificates:
        await recipients.set_certificates(conn, recipient, entry.certificates)
        said.append(f"{what}: needs a certificate of {' or '.join(entry.certificates)}")
    if entry.tokens is None:
        return said
    if not recipient.needs_token:
        await recipient_tokens.need(conn, recipient)
        said.append(f"{what}: needs a token")
    digests = (await recipient_tokens.good_digests(conn)).get(recipient.id, {})
    for digest, number in digests.items():
        if digest not in entry.tokens:
            await recipient_tokens.revoke(conn, recipient, number, now_s=now_s)
            said.append(f"{what}: token {number} is revoked")
    return said


class _Bounded(Protocol):
    @property
    def live_from_s(self) -> int | None: ...
    @property
    def live_until_s(self) -> int | None: ...


def _window(of: _Bounded) -> tuple[int | None, int | None]:
    return of.live_from_s, of.live_until_s


def _in_words(of: _Bounded) -> str:
    return f"shown from {_moment(of.live_from_s)} until {_moment(of.live_until_s)}"


def _moment(at_s: int | None) -> str:
    return "any time" if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat()


def _is_same_audience(entry: AudienceEntry, audience: Audience | None) -> bool:
    named = (entry.owner_id, entry.segment_id)
    return audience is not None and named == (audience.owner_id, audience.segment_id)


def _is_same(entry: AccountEntry, account: Account | None) -> bool:
    named = (entry.kind, entry.public_id)
    return account is not None and named == (account.kind.value, account.public_id)
