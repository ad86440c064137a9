"""
Who may say what of whom: the accounts, and how far the no of each one reaches.

    media_group ── publishers, advertisers       publisher ── related advertisers
    agency ── its sub accounts, which are advertisers

    opt-out submitted by   keeps a person out of the audiences of
    advertiser             itself
    agency                 itself and its sub accounts
    publisher              its related advertisers (and off its own inventory)
    media group            its advertisers, and whatever its publishers reach
    global                 everyone

A sub account is reached by whatever reaches its agency. An ERASURE deletes the
memberships of the same owners: were it fewer, something would be left that may
not be shown; were it more, the next file would bring back what was deleted. So
one function is derived from the other.

A media group reaches through its publishers because its request is "a blanket
operation reaching all the publishers and advertisers connected" (Privacy
Management API, "API user categories"), and a publisher's reaches "all related
advertisers". Where the two readings differ, this is the stricter.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class AccountKind(StrEnum):
    """What sort of account it is."""

    AGENCY = "agency"
    ADVERTISER = "advertiser"
    PUBLISHER = "publisher"
    MEDIA_GROUP = "media_group"


PARTNER_KINDS = frozenset({AccountKind.AGENCY, AccountKind.ADVERTISER})
"""Those who deliver files and own audiences."""

PARENT_KINDS: dict[AccountKind, frozenset[AccountKind]] = {
    AccountKind.AGENCY: frozenset(),
    AccountKind.ADVERTISER: frozenset(
        {AccountKind.AGENCY, AccountKind.ADVERTISER, AccountKind.MEDIA_GROUP}
    ),
    AccountKind.PUBLISHER: frozenset({AccountKind.MEDIA_GROUP}),
    AccountKind.MEDIA_GROUP: frozenset(),
}
"""
Under which kinds of account one of each kind may stand. An account is put there when it is
added, and stays, so no chain of them is a circle.
"""

PARTNERS = "partner"
"""The id space of all who can be named by `partner_id`."""


@dataclass(frozen=True, slots=True)
class Account:
    """One row of the ledger's accounts."""

    id: int
    kind: AccountKind
    public_id: str  # what files and bid requests call it
    name: str
    parent_id: int | None = None
    segtax: int | None = None  # `Data.ext.segtax` of its segments; none: proprietary
    is_active: bool = True


def id_space(kind: AccountKind, parent: Account | None) -> str:
    """
    Return among which accounts a public id must be unambiguous.

    A `partner_id` means one advertiser or agency, a `sub_id` one account of its
    partner, a `publisher.id` one publisher; the same text may be all three.
    """
    if parent is not None and parent.kind in PARTNER_KINDS:
        return f"{parent.kind.value}:{parent.id}"
    return PARTNERS if kind in PARTNER_KINDS else kind.value


class AccountTree:
    """All accounts and how they relate, as of one moment."""

    def __init__(self, accounts: Iterable[Account], relations: Iterable[tuple[int, int]]) -> None:
        """
        Args:
            accounts: All of them, those that are no longer active too.
            relations: Pairs of a publisher's id and its related advertiser's.
        """
        self._id_to_account = {account.id: account for account in accounts}
        self._advertiser_to_publishers: dict[int, set[int]] = {}
        for publisher_id, advertiser_id in relations:
            self._advertiser_to_publishers.setdefault(advertiser_id, set()).add(publisher_id)

    def forbidding(self, owner_id: int) -> frozenset[int]:
        """
        Return every account whose opt-out keeps a person out of an owner's audiences.

        Raises:
            KeyError: There is no such account.
        """
        lineage = self._lineage(owner_id)
        reaching = set(lineage)
        for account_id in lineage:
            for publisher_id in self._advertiser_to_publishers.get(account_id, ()):
                reaching.update(self._lineage(publisher_id))
        return frozenset(reaching)

    def erased_by(self, account_id: int) -> frozenset[int]:
        """Return the owners whose memberships an ERASURE by that account deletes."""
        return frozenset(
            account.id
            for account in self._id_to_account.values()
            if account.kind in PARTNER_KINDS and account_id in self.forbidding(account.id)
        )

    def within(self, account_id: int) -> frozenset[int]:
        """
        Return the accounts for which an account may submit requests: itself, those
        below it, and the owners that its own requests reach anyway.
        """
        below = {id_ for id_ in self._id_to_account if account_id in self._lineage(id_)}
        return self.erased_by(account_id) | below

    def account(self, account_id: int) -> Account:
        """
        Return an account by its number.

        Raises:
            KeyError: There is no such account.
        """
        return self._id_to_account[account_id]

    def of_kind(self, kinds: Iterable[AccountKind], public_id: str) -> list[Account]:
        """Return the accounts of some kinds that have a public id; sub accounts share theirs."""
        wanted = frozenset(kinds)
        return [
            account
            for account in self._id_to_account.values()
            if account.kind in wanted and account.public_id == public_id
        ]

    def _lineage(self, account_id: int) -> list[int]:
        """Return the account, its parent, and so on up."""
        lineage = []
        at: int | None = account_id
        while at is not None:
            lineage.append(at)
            at = self._id_to_account[at].parent_id
        return lineage
