"""
Bytes to views: the first stage.

Configured members to read or strip (`user.ext.hashes.email`, say) are compiled into the views, so
decoding takes two passes for any number of paths: over the body, and over its user, kept raw to
splice it. A single pass is 0.6 µs cheaper, but 5 µs dearer with additions.

`Raw` accepts any byte within a string, so the body is checked here to be UTF-8.

`scan`, if compiled, splits plain requests, which are most: it reads the uids, keeps members'
positions, and hands on the few members that are to be decoded. Tests compare both ways. `copies`
reads duplicate members, and JSON that RFC 8259 allows but msgspec can't read.

Decoded `regs` are cached: millions of requests share a dozen values.
"""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from rtb.openrtb.copies import Pairs, UnreadableJson, is_said_once, pairs_of, read_copies
from rtb.openrtb.members import place_in
from rtb.openrtb.places import FIELD_OF_PLACE, PLACES, Scanned, plain_scan, split
from rtb.openrtb.request import Request
from rtb.openrtb.signals import (
    SILENT_LAW,
    SILENT_TRACKING,
    Law,
    keep_law,
    law_of,
    said,
    says_nothing,
    tracking_of,
)
from rtb.openrtb.uids import uids_of
from rtb.openrtb.views import ABSENT, BidRequest, Device, DeviceExt, Odd, Regs, User, UserExt
from rtb.outcome import MalformedRequest, Reason

_LONGEST_KEPT_REGS: Final = 128
"""Longer `regs` have consent strings, nearly unique to a person."""

_decode_regs: Final[Callable[[bytes], Any]] = msgspec.json.Decoder(Regs | Odd).decode

_TOP_NAMES: Final = (b'"user"', b'"regs"', b'"device"')

Read = Callable[[Request], Any]
"""Reads a request's member: a view if it has one, else a `Raw`; `ABSENT` if missing."""


class Decoder:
    """
    Decodes bid requests, with the configured paths.

    Args:
        paths: Dotted names from the top of the request, through objects only.
        strip_paths: Further paths, to members that may not leave.
    """

    def __init__(self, paths: Iterable[str] = (), strip_paths: Iterable[str] = ()) -> None:
        self.strip_paths = tuple(strip_paths)
        self._extra: dict[str, dict[str, str]] = {place: {} for place in PLACES}
        configured: dict[str, set[str]] = {place: set() for place in PLACES}
        for path in (*paths, *self.strip_paths):
            place, member, _ = split(path)
            configured[place].add(member)
            if member not in PLACES[place].__struct_fields__:
                extra = self._extra[place]
                extra.setdefault(member, f"configured_{len(extra)}")

        self._user_ext: type[UserExt] = self._extended("user.ext")
        self._user: type[User] = self._extended("user", ext=self._user_ext | Odd)
        self._device_ext: type[DeviceExt] = self._extended("device.ext")
        self._device: type[Device] = self._extended("device", ext=self._device_ext | Odd)
        self._no_user = self._user()
        self._no_user_ext = self._user_ext()
        self._no_device = self._device()
        self._no_device_ext = self._device_ext()
        head = self._extended("")
        self._decode_head: Callable[[bytes], BidRequest] = msgspec.json.Decoder(head).decode
        self._decode_user: Callable[[bytes], Any]
        self._decode_user = msgspec.json.Decoder(self._user | Odd).decode
        self._decode_device: Callable[[bytes], Any]
        self._decode_device = msgspec.json.Decoder(self._device | Odd).decode
        self._raw_to_regs: dict[bytes, Law] = {b"": SILENT_LAW}
        self._scan = None if configured[""] else plain_scan(self.strip_paths, configured)

    def __call__(self, body: bytes) -> Request:
        """
        Decode a bid request.

        Raises:
            MalformedRequest: Not UTF-8, not JSON, nested too deep, or not an object with an `id`
                (required: 3.2.1).
        """
        is_once = False
        if self._scan is not None:
            scanned = self._scan(body)
            if scanned is False:
                is_once = True
            elif scanned is not None:
                request = self._of_scanned(body, scanned)
                if request is not None:
                    return request
        return self.in_full(body, is_once=is_once)

    def in_full(self, body: bytes, *, is_once: bool = False) -> Request:
        """
        Decode without `scan`, which leaves out signals that refuse nothing, such as lmt 0.

        Args:
            body: A bid request.
            is_once: Every member is known to be unique.

        Raises:
            MalformedRequest: As of a call.
        """
        try:
            if not body.isascii():
                body.decode()
            head = self._decode_head(body)
            if head.id is not ABSENT:
                if is_once or self._is_said_once(body, head):
                    return self._of_head(body, head, bytes(head.user))
                return self._of_copies(body, head)
            reason = Reason.NOT_A_BID_REQUEST
        except UnicodeDecodeError:
            reason = Reason.NOT_UTF8
        except RecursionError:
            reason = Reason.TOO_DEEP
        except (msgspec.DecodeError, UnreadableJson):
            return self._of_text(body)
        # Outside of `except`: the context could quote the body.
        raise MalformedRequest(reason)

    def with_user(self, request: Request, body: bytes, user_raw: bytes) -> Request:
        """Return a request that differs only in its user."""
        if request.copies is not None:
            return self(body)
        return self._of_head(body, request.head, user_raw)

    def reader(self, path: str) -> tuple[Read, tuple[str, ...]]:
        """
        Return a reader of the first member of a configured path.

        Returns:
            A reader of the path's first raw member, and the names to follow within.
        """
        place, member, rest = split(path)
        holder = FIELD_OF_PLACE[place]
        field = self._extra[place].get(member, member)

        return attrgetter(f"{holder}.{field}"), rest

    def _of_scanned(self, body: bytes, scanned: Scanned) -> Request | None:
        """Decode a scanned request; `None` on an error, for the slower way to report."""
        (
            uids,
            user_raw,
            user_at,
            user_end,
            data_at,
            data_end,
            device_raw,
            regs_raw,
            tmax,
            is_ascii,
        ) = scanned
        user, user_ext = self._no_user, self._no_user_ext
        device, device_ext = self._no_device, self._no_device_ext
        tracking = SILENT_TRACKING
        is_odd = False
        try:
            if not is_ascii:
                body.decode()
            if device_raw:
                device = self._decode_device(device_raw)
                tracking = tracking_of(device)
                if isinstance(device.ext, self._device_ext):
                    device_ext = device.ext
            regs = self._raw_to_regs.get(regs_raw) or self._regs_of(regs_raw)
            if uids is None:
                user_raw = body[user_at:user_end]
            if user_raw:
                user = self._decode_user(user_raw)
                ext = user.ext
                if isinstance(ext, self._user_ext):
                    user_ext = ext
                else:
                    is_odd = not says_nothing(ext)
            if uids is None:
                uids = uids_of(user, user_ext)
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
            return None
        return Request(
            body,
            self._decode_head,
            tmax,
            uids,
            user,
            user_ext,
            device,
            device_ext,
            said(user.consent, user_ext.consent),
            regs,
            tracking,
            is_odd=is_odd or regs.is_odd or tracking.is_odd,
            is_scanned=True,
            user_at=user_at,
            user_end=user_end,
            data_at=data_at,
            data_end=data_end,
        )

    def _regs_of(self, raw: bytes) -> Law:
        """Read `regs` without duplicate members."""
        regs = law_of(_decode_regs(raw))
        if len(raw) <= _LONGEST_KEPT_REGS:
            keep_law(self._raw_to_regs, raw, regs)
        return regs

    def _is_said_once(self, body: bytes, head: BidRequest) -> bool:
        """
        Whether no member that we read is duplicate.

        Reads the whole body again only if duplicates are likely; otherwise parts, except known
        `regs`.
        """
        if b"\\u" in body or any(body.count(name) > 1 for name in _TOP_NAMES):
            return is_said_once(body)
        regs_raw = bytes(head.regs)
        return all(
            is_said_once(part)
            for part in (
                bytes(head.user),
                bytes(head.device),
                b"" if regs_raw in self._raw_to_regs else regs_raw,
            )
            if part.startswith(b"{")
        )

    def _of_head(self, body: bytes, head: BidRequest, user_raw: bytes) -> Request:
        # Three times: a function costs a bid 0.5 µs.
        is_odd = False
        user = self._decode_user(user_raw) if user_raw else None
        if not isinstance(user, self._user):
            is_odd |= not says_nothing(user)
            user = self._no_user
        user_ext = user.ext
        if not isinstance(user_ext, self._user_ext):
            is_odd |= not says_nothing(user_ext)
            user_ext = self._no_user_ext
        device_raw = bytes(head.device)
        device = self._decode_device(device_raw) if device_raw else None
        tracking = tracking_of(device)
        if not isinstance(device, self._device):
            device = self._no_device
        device_ext = device.ext
        if not isinstance(device_ext, self._device_ext):
            device_ext = self._no_device_ext
        regs_raw = bytes(head.regs)
        regs = self._raw_to_regs.get(regs_raw) or self._regs_of(regs_raw)
        return Request(
            body,
            self._decode_head,
            head.tmax,
            uids_of(user, user_ext),
            user,
            user_ext,
            device,
            device_ext,
            said(user.consent, user_ext.consent),
            regs,
            tracking,
            is_odd=is_odd or regs.is_odd or tracking.is_odd,
            head=head,
            user_raw=user_raw,
        )

    def _of_copies(self, body: bytes, head: BidRequest) -> Request:
        user_raw = bytes(head.user)
        user = self._decode_user(user_raw) if user_raw else None
        if not isinstance(user, self._user):
            user = self._no_user
        device_raw = bytes(head.device)
        device = self._decode_device(device_raw) if device_raw else None
        if not isinstance(device, self._device):
            device = self._no_device
        copies = read_copies(pairs_of(body))
        return Request(
            body,
            self._decode_head,
            head.tmax,
            copies.uids,
            user,
            user.ext if isinstance(user.ext, self._user_ext) else self._no_user_ext,
            device,
            device.ext if isinstance(device.ext, self._device_ext) else self._no_device_ext,
            copies.consents,
            copies.regs,
            copies.tracking,
            is_odd=copies.is_odd or copies.regs.is_odd or copies.tracking.is_odd,
            head=head,
            user_raw=user_raw,
            copies=copies.members,
        )

    def _of_text(self, body: bytes) -> Request:
        """
        Decode JSON that msgspec can't: with a lone surrogate, a byte order mark, or too large a
        number where we read.
        """
        try:
            members = pairs_of(body)
            if isinstance(members, tuple) and any(name == "id" for name, _ in members):
                return self._of_members(body, members)
            reason = Reason.NOT_A_BID_REQUEST
        except RecursionError:
            reason = Reason.TOO_DEEP
        except UnreadableJson:
            reason = Reason.NOT_JSON
        raise MalformedRequest(reason)

    def _of_members(self, body: bytes, members: Pairs) -> Request:
        user_at, user_end = place_in(body, "user")
        user_raw = body[user_at:user_end]
        user, data_at, data_end = self._no_user, 0, 0
        if user_raw.startswith(b"{"):
            data_at, data_end = place_in(user_raw, "data")
            user = replace(user, data=Raw(user_raw[data_at:data_end]))
        has_data = user_raw.startswith(b"[", data_at) and data_end
        copies = read_copies(members)
        tmaxes = [value for name, value in members if name == "tmax"]
        return Request(
            body,
            self._decode_head,
            tmaxes[-1] if tmaxes else None,
            copies.uids,
            user,
            self._no_user_ext,
            self._no_device,
            self._no_device_ext,
            copies.consents,
            copies.regs,
            copies.tracking,
            is_odd=copies.is_odd or copies.regs.is_odd or copies.tracking.is_odd,
            user_raw=user_raw,
            copies=members,
            user_end=user_end if user_raw.startswith(b"{") else 0,
            data_end=user_at + data_end if has_data else 0,
        )

    def _extended(self, place: str, **redefined: Any) -> Any:
        """A place's view, with configured members as `Raw`."""
        names = self._extra[place]
        return msgspec.defstruct(
            PLACES[place].__name__,
            [(field, Raw, ABSENT) for field in names.values()]
            + [(field, type_, None) for field, type_ in redefined.items()],
            bases=(PLACES[place],),
            rename={field: member for member, field in names.items()},
            frozen=True,
            gc=False,
        )
