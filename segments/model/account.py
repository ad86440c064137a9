"""
Accounts, their relations, and the reach of their opt-outs.

    media_group ── publishers, advertisers       publisher ── related advertisers
    agency ── its sub accounts, which are advertisers

    opt-out submitted by   keeps a person out of the audiences of
    advertiser             itself
    agency                 itself and its sub accounts
    publisher              its related advertisers (and off its own inventory)
    media group            its advertisers, and everything that its publishers reach
    global                 everyone

An opt-out that reaches an agency reaches its sub accounts. An ERASURE deletes the memberships of
the same owners: others would remain unshown, or be restored by the next file. So the second
function derives from the first.

A media group reaches through its publishers: its request is "a blanket operation reaching all the
publishers and advertisers connected" (Privacy Management API, "API user categories"), and a
publisher's reaches "all related advertisers": the stricter reading.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class AccountKind(StrEnum):
    """The kind of an account."""

    AGENCY = "agency"
    ADVERTISER = "advertiser"
    PUBLISHER = "publisher"
    MEDIA_GROUP = "media_group"

    @property
    def in_words(self) -> str:
        """The kind, for people."""
        return self.value.replace("_", " ")


PARTNER_KINDS = frozenset({AccountKind.AGENCY, AccountKind.ADVERTISER})
"""The kinds that deliver files and own audiences."""

PARENT_KINDS: dict[AccountKind, frozenset[AccountKind]] = {
    AccountKind.AGENCY: frozenset(),
    AccountKind.ADVERTISER: frozenset(
        {AccountKind.AGENCY, AccountKind.ADVERTISER, AccountKind.MEDIA_GROUP}
    ),
    AccountKind.PUBLISHER: frozenset({AccountKind.MEDIA_GROUP}),
    AccountKind.MEDIA_GROUP: frozenset(),
}
"""Possible kinds of parent. An account keeps its first parent, so there are no cycles."""

PARTNERS = "partner"
"""The id space of all accounts that a `partner_id` can name."""


@dataclass(frozen=True, slots=True)
class Account:
    """A row of the ledger's accounts."""

    id: int
    kind: AccountKind
    public_id: str  # its name in files and bid requests
    name: str
    parent_id: int | None = None
    segtax: int | None = None  # `Data.ext.segtax` of its segments; none: proprietary
    is_active: bool = True


def id_space(kind: AccountKind, parent: Account | None) -> str:
    """
    Return the id space in which a public id must be unique: partners', one partner's, publishers'.

    The same text may be in all three.
    """
    if parent is not None and parent.kind in PARTNER_KINDS:
        return f"{parent.kind.value}:{parent.id}"
    return PARTNERS if kind in PARTNER_KINDS else kind.value


class AccountTree:
    """All accounts and their relations at a moment."""

    def __init__(self, accounts: Iterable[Account], relations: Iterable[tuple[int, int]]) -> None:
        """Take all accounts, also inactive, and pairs of a publisher and its related advertiser."""
        self._id_to_account = {account.id: account for account in accounts}
        self._advertiser_to_publishers: dict[int, set[int]] = {}
        for publisher_id, advertiser_id in relations:
            self._advertiser_to_publishers.setdefault(advertiser_id, set()).add(publisher_id)

    def forbidding(self, owner_id: int) -> frozenset[int]:
        """
        Return every account whose opt-out keeps a person out of an owner's audiences.

        Raises:
            KeyError: The account does not exist.
        """
        lineage = self.lineage(owner_id)
        reaching = set(lineage)
        for account_id in lineage:
            for publisher_id in self._advertiser_to_publishers.get(account_id, ()):
                reaching.update(self.lineage(publisher_id))
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
        Return the accounts that requests may name: its own, its descendants, all owners in its
        reach.
        """
        below = {id_ for id_ in self._id_to_account if account_id in self.lineage(id_)}
        return self.erased_by(account_id) | below

    def account(self, account_id: int) -> Account:
        """
        Return an account by its number.

        Raises:
            KeyError: The account does not exist.
        """
        return self._id_to_account[account_id]

    def of_kind(self, kinds: Iterable[AccountKind], public_id: str) -> list[Account]:
        """Return the accounts of some kinds with a public id; sub accounts may share theirs."""
        wanted = frozenset(kinds)
        return [
            account
            for account in self._id_to_account.values()
            if account.kind in wanted and account.public_id == public_id
        ]

    def lineage(self, account_id: int) -> list[int]:
        """Return an account and its ancestors, from the account up."""
        lineage = []
        at: int | None = account_id
        while at is not None:
            lineage.append(at)
            at = self._id_to_account[at].parent_id
        return lineage
