"""The catalog as the control plane publishes it for the bid path."""

from typing import NamedTuple

import msgspec


class AudienceEntry(msgspec.Struct, frozen=True):
    """An audience, as the bid path sees it. Unix times bound when it is live."""

    id: int
    owner_id: int
    partner_id: int
    segment_id: str
    is_active: bool
    live_from_s: int | None = None
    live_until_s: int | None = None


class AccountEntry(msgspec.Struct, frozen=True):
    """An account; `related_ids` are a publisher's related advertisers."""

    id: int
    kind: str
    public_id: str
    name: str
    is_active: bool
    parent_id: int | None = None
    related_ids: tuple[int, ...] = ()
    segtax: int | None = None


class ActivationEntry(msgspec.Struct, frozen=True):
    """An audience for a recipient, independent of the audience's own id and window."""

    audience_id: int
    segment_id: str
    live_from_s: int
    live_until_s: int


class RecipientEntry(msgspec.Struct, frozen=True):
    """
    A recipient of segments, with its grants and activations.

    `tokens` are SHA-256 digests in hex; a client's certificate must have one of `certificates` as a
    name. `None`: not required.
    """

    id: int
    name: str
    is_active: bool
    partner_ids: tuple[int, ...] = ()
    hold_out: float = 0.0
    activations: tuple[ActivationEntry, ...] = ()
    tokens: tuple[str, ...] | None = None
    certificates: tuple[str, ...] | None = None


class CatalogSnapshot(NamedTuple):
    """The whole catalog; version 0: not published yet."""

    version: int
    audiences: tuple[AudienceEntry, ...]
    accounts: tuple[AccountEntry, ...]
    recipients: tuple[RecipientEntry, ...]
