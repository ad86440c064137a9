"""The catalog as the control plane publishes it for the bid path."""

from typing import NamedTuple

import msgspec


class AudienceEntry(msgspec.Struct, frozen=True):
    """One audience, as the bid path must know it. Unix times bound when it is live."""

    id: int
    owner_id: int
    partner_id: int
    segment_id: str
    is_active: bool
    live_from_s: int | None = None
    live_until_s: int | None = None


class AccountEntry(msgspec.Struct, frozen=True):
    """One account; `related_ids` are a publisher's related advertisers."""

    id: int
    kind: str
    public_id: str
    name: str
    is_active: bool
    parent_id: int | None = None
    related_ids: tuple[int, ...] = ()
    segtax: int | None = None


class ActivationEntry(msgspec.Struct, frozen=True):
    """One audience as one recipient sees it, whatever the audience's own id and window are."""

    audience_id: int
    segment_id: str
    live_from_s: int
    live_until_s: int


class RecipientEntry(msgspec.Struct, frozen=True):
    """One recipient of segments, the partners granted to it, and what is activated for it."""

    id: int
    name: str
    is_active: bool
    partner_ids: tuple[int, ...] = ()
    hold_out: float = 0.0
    activations: tuple[ActivationEntry, ...] = ()


class CatalogSnapshot(NamedTuple):
    """The whole catalog at one version of it. Version 0: none was published yet."""

    version: int
    audiences: tuple[AudienceEntry, ...]
    accounts: tuple[AccountEntry, ...]
    recipients: tuple[RecipientEntry, ...]
