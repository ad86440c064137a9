"""
The part of a store that some recipients may see, and the opt-outs that apply to it.

Any process in a host's pod can read it, so there is nothing else:

    audiences    active, of active accounts, of partners granted to any of the recipients
    memberships  of these audiences, unless an opt-out of the person hides them everywhere
    opt-outs     global, of accounts with any of these audiences in their scope, and of
                 publishers and media groups, which count on their inventory
    recipients   the named ones, if active
    accounts     all of these; name and public id only where a bid shows or matches them

An opt-out of an account outside the catalog hides everything, and is kept. The bid path checks
audiences' times.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from msgspec.structs import replace

from segments.model.account import Account, AccountKind, AccountTree
from segments.model.catalog import AccountEntry, CatalogSnapshot
from segments.model.record import (
    EVERYONE,
    NO_EXPIRY,
    CorruptRecord,
    Record,
    live,
    pack,
    unpack,
)
from segments.model.refusal import NotFound

UNREADABLE: Final = b"\0"
"""Published for an unreadable record: no version decodes it."""

_EXPIRY_BYTES: Final = 2
_VERSION: Final = 0
"""Of the published catalog: followers count their own store's versions."""


class Part(NamedTuple):
    """The published part."""

    catalog: CatalogSnapshot
    scope: "Scope | None"
    """Of memberships and opt-outs; `None`: all."""


class Scope(NamedTuple):
    """The published memberships and opt-outs; another scope changes the buckets."""

    audience_ids: frozenset[int]
    hidden_by: Mapping[int, frozenset[int]]
    """Account id -> the audiences that its opt-out hides everywhere."""
    without_effect: frozenset[int]
    """Accounts whose opt-outs hide nothing from these recipients."""

    def is_of(self, account_id: int) -> bool:
        """Tell whether opt-outs of an account are published."""
        return account_id not in self.without_effect

    def differs(self, other: "Scope", audience_ids: Collection[int]) -> bool:
        """Tell whether another scope changes records of these audiences."""
        wanted = frozenset(audience_ids)
        nobody: frozenset[int] = frozenset()
        return bool(self.without_effect - other.without_effect) or any(
            self.hidden_by.get(account_id, nobody) & wanted
            != other.hidden_by.get(account_id, nobody) & wanted
            for account_id in self.hidden_by.keys() | other.hidden_by.keys()
        )

    def newly_hidden(self, then: "Scope") -> frozenset[int]:
        """
        Return the audiences that `then` hides by opt-outs that our records omit.

        All audiences, for an opt-out that hides on an inventory only.
        """
        found: frozenset[int] = frozenset()
        for account_id in self.without_effect - then.without_effect:
            found |= then.hidden_by[account_id] or then.audience_ids
        return found

    def of_record(self, record: Record) -> Record:
        """Return the published part of a record."""
        shown = self.audience_ids
        for account_id, _ in record.opt_outs:
            hidden = self.hidden_by.get(account_id)
            if hidden is not None:
                shown -= hidden
            elif account_id not in self.without_effect:
                shown = frozenset()
        return Record(
            tuple(each for each in record.opt_outs if self.is_of(each.account_id)),
            tuple(each for each in record.memberships if each.audience_id in shown),
        )


def part_of(catalog: CatalogSnapshot, names: Collection[str] | None) -> Part:
    """
    Return the catalog's part to publish for recipients; `names` of `None`: everything.

    Raises:
        NotFound: A recipient does not exist.
    """
    if names is None:
        return Part(catalog._replace(version=_VERSION), None)
    known = {recipient.name for recipient in catalog.recipients}
    for name in sorted(set(names) - known):
        raise NotFound(f"there is no recipient {name}")
    recipients = [r for r in catalog.recipients if r.name in names and r.is_active]
    partner_ids = {partner_id for r in recipients for partner_id in r.partner_ids}
    active = {account.id for account in catalog.accounts if account.is_active}
    audiences = tuple(
        audience
        for audience in catalog.audiences
        if audience.is_active
        and audience.partner_id in partner_ids
        and {audience.owner_id, audience.partner_id} <= active
    )
    audience_ids = frozenset(audience.id for audience in audiences)
    tree = _tree(catalog)
    hidden_by: dict[int, set[int]] = {EVERYONE: set(audience_ids)}
    for audience in audiences:
        for account_id in tree.forbidding(audience.owner_id):
            hidden_by.setdefault(account_id, set()).add(audience.id)
    for account in catalog.accounts:
        if account.kind == AccountKind.PUBLISHER.value:
            for account_id in tree.lineage(account.id):
                hidden_by.setdefault(account_id, set())
    shown_partners = {audience.partner_id for audience in audiences}
    wanted = hidden_by.keys() | {
        account_id for partner_id in shown_partners for account_id in tree.lineage(partner_id)
    }
    return Part(
        CatalogSnapshot(
            _VERSION,
            audiences,
            tuple(
                _reduced(account, wanted, shown_partners)
                for account in catalog.accounts
                if account.id in wanted
            ),
            tuple(
                replace(
                    recipient,
                    partner_ids=tuple(p for p in recipient.partner_ids if p in shown_partners),
                    activations=tuple(
                        a for a in recipient.activations if a.audience_id in audience_ids
                    ),
                )
                for recipient in recipients
            ),
        ),
        Scope(
            audience_ids,
            {account_id: frozenset(hidden) for account_id, hidden in hidden_by.items()},
            frozenset(a.id for a in catalog.accounts if a.id not in hidden_by),
        ),
    )


def published(raw: bytes, scope: Scope | None) -> bytes:
    """Return the bytes to publish for a record; empty: nothing."""
    if scope is None:
        return raw
    try:
        opt_outs, audience_ids = live(raw, NO_EXPIRY)
        if not opt_outs:
            return _memberships_of(raw, audience_ids, scope.audience_ids)
        record = scope.of_record(unpack(raw))
    except CorruptRecord:
        return UNREADABLE
    return pack(record) if any(record) else b""


def are_whole(raws: Iterable[bytes], scope: Scope | None) -> bool:
    """Tell whether `published` returns each of these records as it is, in a third of the time."""
    if scope is None:
        return True
    try:
        parts = [live(raw, NO_EXPIRY) for raw in raws]
    except CorruptRecord:
        return False
    return all(audience_ids and not opt_outs for opt_outs, audience_ids in parts) and (
        scope.audience_ids.issuperset(chain.from_iterable(ids for _, ids in parts))
    )


def _memberships_of(raw: bytes, audience_ids: Sequence[int], shown: frozenset[int]) -> bytes:
    """Return a record without opt-outs in which only shown audiences are left."""
    if audience_ids and shown.issuperset(audience_ids):
        return raw
    kept, at = bytearray(raw[:1]), 1
    for audience_id in audience_ids:
        end = at + -(-audience_id.bit_length() // 7) + _EXPIRY_BYTES
        if audience_id in shown:
            kept += raw[at:end]
        at = end
    return bytes(kept) if len(kept) > 1 else b""


def without_audiences(catalog: CatalogSnapshot, audience_ids: Collection[int]) -> CatalogSnapshot:
    """Return a catalog without some audiences."""
    return catalog._replace(
        audiences=tuple(each for each in catalog.audiences if each.id not in audience_ids)
    )


def _reduced(
    account: AccountEntry, wanted: Collection[int], partner_ids: Collection[int]
) -> AccountEntry:
    is_partner = account.id in partner_ids
    is_matched = is_partner or account.kind == AccountKind.PUBLISHER.value
    return replace(
        account,
        name=account.name if is_partner else "",
        public_id=account.public_id if is_matched else "",
        segtax=account.segtax if is_partner else None,
        related_ids=tuple(each for each in account.related_ids if each in wanted),
    )


def _tree(catalog: CatalogSnapshot) -> AccountTree:
    return AccountTree(
        (
            Account(a.id, AccountKind(a.kind), a.public_id, a.name, a.parent_id)
            for a in catalog.accounts
        ),
        ((a.id, related_id) for a in catalog.accounts for related_id in a.related_ids),
    )
