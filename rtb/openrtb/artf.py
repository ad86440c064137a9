"""
Turns an ARTF `RTBRequest` into a `Request`, as of JSON.

Later code is the same for both encodings. Members of configured paths, and the publishers, go to
`Request.copies`, as for duplicate members. Of id rules' paths, only `user.buyeruid` and
`device.ifa` are read.

A protobuf flag is a number or absent; an empty text counts as absent, as in JSON. Nothing is
stripped: the request stays with its host, which receives mutations.
"""

from typing import Any, Final, NoReturn, TypeAlias, final

from mypy_extensions import mypyc_attr

from rtb.openrtb.request import Request
from rtb.openrtb.rtb_request import read_regs, read_rtb_request
from rtb.openrtb.signals import (
    NOTHING,
    SILENT_LAW,
    SILENT_TRACKING,
    Law,
    Said,
    Tracking,
    keep_law,
    said,
)
from rtb.openrtb.uids import SourcedUid
from rtb.openrtb.views import Device, DeviceExt, User, UserExt

Fields: TypeAlias = tuple[
    str | None,
    int,
    int | None,
    str | None,
    list[int],
    bool,
    list[SourcedUid],
    str | None,
    str | None,
    str | None,
    str | None,
    str | None,
    str | None,
    str | None,
    int,
    int,
    int | None,
    bytes,
    list[bytes],
    bool,
]
"""
The result of `rtb_request.read_rtb_request`.

`id`, `lifecycle`, `tmax`, the originator's id, `applicable_intents`; whether there is a
`bid_request` with an id; the uids of `eids` in both places, `consent` in both, `buyeruid`, `ifa`;
`publisher.id` of site, app and dooh; `lmt` and `dnt`, -1 if absent, `atts`; `regs` and each
`user.data` as bytes; whether a signal is odd.
"""

RegsFields: TypeAlias = tuple[
    int | None,
    int | None,
    int | None,
    str | None,
    str | None,
    str | None,
    list[int],
    str | None,
    bool,
]
"""
The result of `rtb_request.read_regs`: `coppa`, `gdpr` in both places, `us_privacy` in both,
`gpp`, `gpp_sid`, `gpc`; whether a signal is odd.
"""

ACTIVATE_SEGMENTS: Final = 1
"""The only `Intent` of ours."""

_LIFECYCLES: Final = (0, 1)
"""Unspecified, and `LIFECYCLE_PUBLISHER_BID_REQUEST`; bid responses are not enriched."""

_LONGEST_KEPT_REGS: Final = 64
"""Longer `regs` have consent strings, nearly unique to a person."""

_NO_USER: Final = User()
_NO_USER_EXT: Final = UserExt()
_NO_DEVICE: Final = Device()
_NO_DEVICE_EXT: Final = DeviceExt()


@final
@mypyc_attr(acyclic=True)
class RtbRequest:
    """
    A call of `GetMutations`.

    Attributes:
        id: Of the call, to be echoed; `None` if missing or unreadable.
        originator: `Originator.id`, the maker of the bid request; `None` likewise.
        wants_segments: The host takes segments, in this stage of the auction.
        bid_request: `None` if missing or without its required `id` (3.2.1).
    """

    __slots__ = ("bid_request", "id", "originator", "wants_segments")

    def __init__(
        self,
        id_: str | None,
        originator: str | None,
        wants_segments: bool,
        bid_request: Request | None,
    ) -> None:
        self.id: Final = id_
        self.originator: Final = originator
        self.wants_segments: Final = wants_segments
        self.bid_request: Final = bid_request


class ArtfReader:
    """Reads calls; caches decoded `regs`, whose values are few."""

    __slots__ = ("_raw_to_law",)

    def __init__(self) -> None:
        self._raw_to_law: dict[bytes, Law] = {b"": SILENT_LAW}

    def __call__(self, raw: bytes) -> RtbRequest:
        """
        Read an `RTBRequest`.

        Raises:
            MalformedRequest: Not protobuf, as far as we look.
        """
        fields: Fields = read_rtb_request(raw)
        (
            id_,
            lifecycle,
            tmax,
            originator,
            intents,
            has_bid_request,
            uids,
            consent,
            consent_25,
            buyeruid,
            ifa,
            site,
            app,
            dooh,
            lmt,
            dnt,
            atts,
            regs_raw,
            user_data,
            is_odd,
        ) = fields
        wants_segments = lifecycle in _LIFECYCLES and (not intents or ACTIVATE_SEGMENTS in intents)
        if not has_bid_request:
            return RtbRequest(id_, originator, wants_segments, None)
        law = self._raw_to_law.get(regs_raw) or self._law_of(regs_raw)
        members: list[tuple[str, Any]] = []
        if buyeruid is not None:
            members.append(("user", (("buyeruid", buyeruid),)))
        if ifa is not None:
            members.append(("device", (("ifa", ifa),)))
        if site is not None:
            members.append(("site", (("publisher", (("id", site),)),)))
        if app is not None:
            members.append(("app", (("publisher", (("id", app),)),)))
        if dooh is not None:
            members.append(("dooh", (("publisher", (("id", dooh),)),)))
        tracking = SILENT_TRACKING
        if lmt > 0 or dnt > 0 or atts is not None:
            tracking = Tracking(_flag(lmt), _flag(dnt), said(atts, None))
        return RtbRequest(
            id_,
            originator,
            wants_segments,
            Request(
                raw,
                _no_head,
                tmax,
                uids,
                _NO_USER,
                _NO_USER_EXT,
                _NO_DEVICE,
                _NO_DEVICE_EXT,
                said(consent, consent_25),
                law,
                tracking,
                is_odd=is_odd or law.is_odd,
                copies=tuple(members),
                is_scanned=True,
                data_messages=user_data,
            ),
        )

    def _law_of(self, raw: bytes) -> Law:
        fields: RegsFields = read_regs(raw)
        coppa, gdpr, gdpr_25, us_privacy, us_privacy_25, gpp, gpp_sid, gpc, is_odd = fields
        law = Law(
            said(coppa, None),
            said(gdpr, gdpr_25),
            said(us_privacy, us_privacy_25),
            said(gpp, None),
            (gpp_sid,) if gpp_sid else NOTHING,
            said(gpc, None),
            is_odd=is_odd,
        )
        if len(raw) <= _LONGEST_KEPT_REGS:
            keep_law(self._raw_to_law, raw, law)
        return law


def _flag(value: int) -> Said:
    return NOTHING if value < 0 else (value,)


def _no_head(_: bytes) -> NoReturn:
    raise TypeError("an RTBRequest has no bid request of JSON")
