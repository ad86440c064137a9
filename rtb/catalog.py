"""
Audiences, accounts and recipients, for the bid path.

Immutable: a request keeps its catalog until the answer. Computed once per change of the ledger:
each recipient's segments, their JSON, and the reach of each account's opt-outs.

    opt-out by     suppresses
    global         everything
    media group    everything on its publishers' inventory; the owners in its reach, everywhere
    publisher      everything on its own inventory; its related advertisers' segments, everywhere
    agency         its own and its sub accounts' segments
    advertiser     its own segments
    unknown        everything: an account that we do not know yet (fails closed)

The reach is computed from the tree of `segments.model.account.AccountTree.forbidding`: an owner is
in the reach of itself, its parents, the publishers related to any of these, and their parents. An
inactive account keeps its reach.

For its recipient, an activation has its own segment id and window, in whole seconds; `live_until_s`
is the first second without the segment. A worker's clock may lag by a quarter of a second, so
segments appear and disappear that much late, never early.
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
    A `Data` object, rendered around its segments.

    Attributes:
        data_id: `Data.id`.
        segtax: `Data.ext.segtax`; `None` if it has none.
        head: The object up to its first segment.
        tail: The object after its last segment.
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
    An audience as bid requests show it.

    Attributes:
        segment_id: The id in bid requests.
        json: The `Segment` object, rendered.
        partner: The partner of its `Data`.
        owner_id: The audience's owner.
        live_from_s: Unix time of its first second; minus infinity: always.
        live_until_s: Unix time of its end.
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


@final
@mypyc_attr(acyclic=True)
class Access:
    """
    The credentials of a recipient's requests, for `rtb.server.access`.

    Attributes:
        tokens: SHA-256 of the recipient's tokens; empty: no request passes; `None`: none needed.
        every_token: SHA-256 of all recipients' tokens.
        certificate_names: The client's certificate must have one of these names, spelled as in
            `segments.runtime.client_certificates`; `None`: no certificate needed.
    """

    __slots__ = ("certificate_names", "every_token", "tokens")

    def __init__(
        self,
        tokens: tuple[bytes, ...] | None,
        every_token: frozenset[bytes],
        certificate_names: frozenset[str] | None,
    ) -> None:
        self.tokens: Final = tokens
        self.every_token: Final = every_token
        self.certificate_names: Final = certificate_names


class Recipient:
    """
    A bidder by name, or the nameless trusted caller.

    Args:
        name: As in the URL; `None` for the trusted caller.
        segments: Audience id to segment, of the partners granted to it.
        hold_out: The fraction of persons in the hold-out.
        access: Needed credentials; `None`: none.
        partners: The number of partners granted to it.
    """

    __slots__ = (
        "_held_out_below",
        "_salt",
        "access",
        "hold_out",
        "name",
        "owner_ids",
        "partners",
        "segments",
    )

    def __init__(
        self,
        name: str | None,
        segments: Mapping[int, Segment],
        hold_out: float,
        access: Access | None = None,
        partners: int = 0,
    ) -> None:
        self.name = name
        self.partners = partners
        self.access = access
        self.segments = segments
        self.owner_ids = frozenset(segment.owner_id for segment in segments.values())
        self.hold_out = hold_out
        self._held_out_below = int(hold_out * _HOLD_OUT_STEPS)
        self._salt = blake2b((name or "").encode(), digest_size=16).digest()

    def holds_out(self, id_: Id) -> bool:
        """
        Return whether this person is in the hold-out.

        The same for every bid and process; differs by recipient.
        """
        if not self._held_out_below:
            return False
        digest = blake2b(id_, digest_size=8, salt=self._salt).digest()
        return int.from_bytes(digest) < self._held_out_below


class Reach(NamedTuple):
    """The reach of an opt-out: publishers' inventory, and owners suppressed everywhere."""

    publisher_ids: frozenset[str] = frozenset()  # `publisher.id` in a bid request
    owner_ids: frozenset[int] = frozenset()


class Catalog:
    """
    A catalog version, made by `from_snapshot`; immutable.

    `version` is the ledger's revision; 0 before the first.
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
        Compute the catalog.

        Args:
            snapshot: From the store. Incomplete entries, such as an audience without owner or
                partner, are not shown.
            hold_out: For the trusted caller; recipients have their own.
        """
        accounts = {account.id: account for account in snapshot.accounts}
        partner_to_segments = _segments(snapshot.audiences, accounts)
        everything = {
            audience_id: segment
            for segments in partner_to_segments.values()
            for audience_id, segment in segments.items()
        }
        every_token = frozenset(
            bytes.fromhex(digest)
            for recipient in snapshot.recipients
            for digest in recipient.tokens or ()
        )
        return cls(
            snapshot.version,
            Recipient(None, everything, hold_out, partners=len(partner_to_segments)),
            {
                recipient.name: _recipient(recipient, partner_to_segments, every_token)
                for recipient in snapshot.recipients
                if recipient.is_active
            },
            _reaches(accounts),
        )

    def recipient(self, name: str | None) -> Recipient | None:
        """Return an active recipient by name; the trusted caller for `None`."""
        return self._unnamed if name is None else self._recipients.get(name)

    @property
    def needs_certificates(self) -> bool:
        """Whether any recipient requires a client's certificate."""
        return any(
            recipient.access is not None and recipient.access.certificate_names is not None
            for recipient in self._recipients.values()
        )

    def reach_of(self, account_ids: Collection[int]) -> Reach | None:
        """
        Return the combined reach of opt-outs.

        Returns:
            `None` if they suppress everything, everywhere.
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
    """Partner to audience id to segment, of active audiences and accounts."""
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
    """Render a partner's `Data` without its segments (3.2.21, and the segtax extension)."""
    head = msgspec.json.encode({"id": account.public_id, "name": account.name})
    tail = b"]}"
    if account.segtax is not None:
        tail = b'],"ext":{"segtax":%d}}' % account.segtax
    return Partner(account.public_id, account.segtax, head[:-1] + b',"segment":[', tail)


def _recipient(
    entry: "RecipientEntry",
    partner_to_segments: Mapping[int, Mapping[int, Segment]],
    every_token: frozenset[bytes],
) -> Recipient:
    segments: dict[int, Segment] = {}
    for partner_id in entry.partner_ids:
        segments.update(partner_to_segments.get(partner_id, {}))
    for activation in entry.activations:
        # Missing without a grant, or if inactive.
        if activation.audience_id in segments:
            segments[activation.audience_id] = _activated(
                segments[activation.audience_id], activation
            )
    return Recipient(
        entry.name,
        segments,
        entry.hold_out,
        _access(entry, every_token),
        len(entry.partner_ids),
    )


def _access(entry: "RecipientEntry", every_token: frozenset[bytes]) -> Access | None:
    if entry.tokens is None and entry.certificates is None:
        return None
    return Access(
        None if entry.tokens is None else tuple(map(bytes.fromhex, entry.tokens)),
        every_token,
        None if entry.certificates is None else frozenset(entry.certificates),
    )


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
    """The module's table for every account."""
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
    """The account, its parent and so on, where known."""
    lineage: list[int] = []
    at: int | None = account_id
    while at is not None and at in accounts and at not in lineage:
        lineage.append(at)
        at = accounts[at].parent_id
    return lineage
