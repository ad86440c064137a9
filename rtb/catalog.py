"""
Audiences, accounts and recipients as the bid path sees them.

Immutable, and swapped whole: a request asks and is answered by one catalog,
even if the next one arrives in between. All that can be worked out ahead is
worked out here, once per change of the ledger and not once per bid: which
segments a recipient may see, their JSON, and how far each account's opt-out
reaches.

    opt-out by     suppresses
    global         everything
    media group    everything on its publishers' inventory; what it reaches, everywhere
    publisher      everything on its own inventory; its related advertisers' segments, everywhere
    agency         its own and its sub accounts' segments
    advertiser     its own segments
    unknown        everything: an account that we have not heard of yet (fails closed)

"Reaches" is what `segments.model.account.AccountTree.forbidding` says of the ledger's
accounts, worked out here from the same tree: an owner is reached by itself, its
parents, the publishers related to any of these, and those publishers' parents.
An account that is no longer active keeps its reach, for a person's no does not
end with a contract.

An audience that is activated for a recipient has, for that recipient alone, the
segment id and the window of the activation. Windows are in whole seconds, and
`live_until_s` is the first one in which it is not shown; who asks may have a
clock that stands still for a quarter of a second, so a segment appears and is
gone within a quarter of a second behind its bounds, and never before them.
"""

from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, final

import msgspec
from mypy_extensions import mypyc_attr

from segments.model.identity import Id
from segments.model.record import EVERYONE

if TYPE_CHECKING:
    from segments.model.catalog import (
        AccountEntry,
        ActivationEntry,
        AudienceEntry,
        CatalogSnapshot,
        RecipientEntry,
    )

_PUBLISHER: Final = "publisher"
_HOLD_OUT_STEPS: Final = 2**64


@final
@mypyc_attr(acyclic=True)
class Partner:
    """
    Whose `Data` object a segment stands in, rendered around the segments.

    Attributes:
        data_id: `Data.id`.
        segtax: `Data.ext.segtax`; `None` if it has none.
        head: Of the object, up to its first segment.
        tail: Behind its last one.
    """

    __slots__ = ("data_id", "head", "segtax", "tail")

    def __init__(self, data_id: str, segtax: int | None, head: bytes, tail: bytes) -> None:
        self.data_id: Final = data_id
        self.segtax: Final = segtax
        self.head: Final = head
        self.tail: Final = tail


@final
@mypyc_attr(acyclic=True)
class Segment:
    """
    An audience as shown in a bid request, from one second on and until another.

    Attributes:
        segment_id: As bid requests show it.
        json: The `Segment` object, rendered.
        partner: Whose `Data` it stands in.
        owner_id: The account whose audience it is.
        live_from_s: Unix time from which it is shown; minus infinity: always.
        live_until_s: Unix time from which it is no longer shown.
    """

    __slots__ = ("json", "live_from_s", "live_until_s", "owner_id", "partner", "segment_id")

    def __init__(
        self,
        segment_id: str,
        json: bytes,
        partner: Partner,
        owner_id: int,
        live_from_s: float,
        live_until_s: float,
    ) -> None:
        self.segment_id: Final = segment_id
        self.json: Final = json
        self.partner: Final = partner
        self.owner_id: Final = owner_id
        self.live_from_s: Final = live_from_s
        self.live_until_s: Final = live_until_s


class Recipient:
    """
    Who receives segments: a bidder by name, or the trusted caller, who has none.

    Args:
        name: As in the URL; `None` for the trusted caller.
        segments: Audience id to segment, of the partners granted to it.
        hold_out: The fraction of persons that is left alone.
    """

    __slots__ = ("_held_out_below", "_salt", "hold_out", "name", "owner_ids", "segments")

    def __init__(self, name: str | None, segments: Mapping[int, Segment], hold_out: float) -> None:
        self.name = name
        self.segments = segments
        self.owner_ids = frozenset(segment.owner_id for segment in segments.values())
        self.hold_out = hold_out
        self._held_out_below = int(hold_out * _HOLD_OUT_STEPS)
        self._salt = blake2b((name or "").encode(), digest_size=16).digest()

    def holds_out(self, id_: Id) -> bool:
        """
        Say whether this person is left alone, to measure the others against.

        The same at every bid and in every process; for another recipient it is
        another choice of persons.
        """
        if not self._held_out_below:
            return False
        digest = blake2b(id_, digest_size=8, salt=self._salt).digest()
        return int.from_bytes(digest) < self._held_out_below


class Reach(NamedTuple):
    """How far an opt-out reaches: off which inventory, and out of whose audiences everywhere."""

    publisher_ids: frozenset[str] = frozenset()  # `publisher.id` in a bid request
    owner_ids: frozenset[int] = frozenset()


class Catalog:
    """
    One version of it all. Made by `from_snapshot`, never changed.

    `version` is the ledger's revision that it shows; 0 before the first one.
    """

    def __init__(
        self,
        version: int,
        unnamed: Recipient,
        recipients: Mapping[str, Recipient],
        account_to_reach: Mapping[int, Reach],
    ) -> None:
        self.version = version
        self._unnamed = unnamed
        self._recipients = recipients
        self._account_to_reach = account_to_reach

    @classmethod
    def from_snapshot(cls, snapshot: "CatalogSnapshot", hold_out: float = 0.0) -> "Catalog":
        """
        Work out what the bid path needs.

        Args:
            snapshot: As the store holds it. What it does not explain is not
                shown: an audience whose owner or partner is missing, say.
            hold_out: Of the trusted caller; recipients have their own.
        """
        accounts = {account.id: account for account in snapshot.accounts}
        partner_to_segments = _segments(snapshot.audiences, accounts)
        everything = {
            audience_id: segment
            for segments in partner_to_segments.values()
            for audience_id, segment in segments.items()
        }
        return cls(
            snapshot.version,
            Recipient(None, everything, hold_out),
            {
                recipient.name: _recipient(recipient, partner_to_segments)
                for recipient in snapshot.recipients
                if recipient.is_active
            },
            _reaches(accounts),
        )

    def recipient(self, name: str | None) -> Recipient | None:
        """Return an active recipient by its name; the trusted caller for `None`."""
        return self._unnamed if name is None else self._recipients.get(name)

    def reach_of(self, account_ids: Collection[int]) -> Reach | None:
        """
        Return how far the opt-outs of some accounts reach together.

        Returns:
            `None` if they reach everything, everywhere.
        """
        reach = Reach()
        for account_id in account_ids:
            more = self._account_to_reach.get(account_id)
            if account_id == EVERYONE or more is None:
                return None
            reach = Reach(
                reach.publisher_ids | more.publisher_ids, reach.owner_ids | more.owner_ids
            )
        return reach


def _segments(
    audiences: Iterable["AudienceEntry"], accounts: Mapping[int, "AccountEntry"]
) -> dict[int, dict[int, Segment]]:
    """Return, by partner, the segments by audience id: of active audiences and accounts only."""
    active = {account.id for account in accounts.values() if account.is_active}
    partners: dict[int, Partner] = {}
    partner_to_segments: dict[int, dict[int, Segment]] = {}
    for audience in audiences:
        partner_id = audience.partner_id
        if not (audience.is_active and {audience.owner_id, partner_id} <= active):
            continue
        if partner_id not in partners:
            partners[partner_id] = _partner(accounts[partner_id])
        partner_to_segments.setdefault(partner_id, {})[audience.id] = Segment(
            audience.segment_id,
            msgspec.json.encode({"id": audience.segment_id}),
            partners[partner_id],
            audience.owner_id,
            -inf if audience.live_from_s is None else audience.live_from_s,
            inf if audience.live_until_s is None else audience.live_until_s,
        )
    return partner_to_segments


def _partner(account: "AccountEntry") -> Partner:
    """Render the `Data` of a partner: all but its segments (3.2.21, and the segtax extension)."""
    head = msgspec.json.encode({"id": account.public_id, "name": account.name})
    tail = b"]}"
    if account.segtax is not None:
        tail = b'],"ext":{"segtax":%d}}' % account.segtax
    return Partner(account.public_id, account.segtax, head[:-1] + b',"segment":[', tail)


def _recipient(
    entry: "RecipientEntry", partner_to_segments: Mapping[int, Mapping[int, Segment]]
) -> Recipient:
    segments: dict[int, Segment] = {}
    for partner_id in entry.partner_ids:
        segments.update(partner_to_segments.get(partner_id, {}))
    for activation in entry.activations:
        # Not there: of a partner that is not granted, or an audience that is not active.
        if activation.audience_id in segments:
            segments[activation.audience_id] = _activated(
                segments[activation.audience_id], activation
            )
    return Recipient(entry.name, segments, entry.hold_out)


def _activated(segment: Segment, activation: "ActivationEntry") -> Segment:
    return Segment(
        activation.segment_id,
        msgspec.json.encode({"id": activation.segment_id}),
        segment.partner,
        segment.owner_id,
        activation.live_from_s,
        activation.live_until_s,
    )


def _reaches(accounts: Mapping[int, "AccountEntry"]) -> dict[int, Reach]:
    """Work out the table above for every account."""
    lineages = {account_id: _lineage(account_id, accounts) for account_id in accounts}
    advertiser_to_publishers: dict[int, list[int]] = {}
    account_to_publisher_ids: dict[int, set[str]] = {account_id: set() for account_id in accounts}
    for account in accounts.values():
        for advertiser_id in account.related_ids:
            advertiser_to_publishers.setdefault(advertiser_id, []).append(account.id)
        if account.kind == _PUBLISHER:
            for ancestor in lineages[account.id]:
                account_to_publisher_ids[ancestor].add(account.public_id)

    account_to_owners: dict[int, set[int]] = {account_id: set() for account_id in accounts}
    for owner_id, lineage in lineages.items():
        for ancestor in lineage:
            account_to_owners[ancestor].add(owner_id)
            for publisher_id in advertiser_to_publishers.get(ancestor, ()):
                for reaching in lineages[publisher_id]:
                    account_to_owners[reaching].add(owner_id)
    return {
        account_id: Reach(frozenset(publisher_ids), frozenset(account_to_owners[account_id]))
        for account_id, publisher_ids in account_to_publisher_ids.items()
    }


def _lineage(account_id: int, accounts: Mapping[int, "AccountEntry"]) -> list[int]:
    """Return the account, its parent, and so on up, as far as they are known."""
    lineage: list[int] = []
    at: int | None = account_id
    while at is not None and at in accounts and at not in lineage:
        lineage.append(at)
        at = accounts[at].parent_id
    return lineage
