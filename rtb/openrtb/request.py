"""
A bid request, decoded as far as we read it, for all stages.

Unlike msgspec's views, these classes are compiled: reading a field is a memory access.
"""

from collections.abc import Callable
from typing import Any, Final, final

import msgspec
from mypy_extensions import mypyc_attr

from rtb.openrtb.members import value_in
from rtb.openrtb.signals import Law, Said, Tracking
from rtb.openrtb.uids import SourcedUid
from rtb.openrtb.views import BidRequest, Device, DeviceExt, User, UserExt


@final
@mypyc_attr(acyclic=True, free_list_len=1)
class Request:
    """
    A decoded request; immutable.

    A missing, null or odd part is an empty view.

    Attributes:
        body: As received, or as it leaves after stripping.
        tmax: `BidRequest.tmax` (3.2.1), of any type.
        uids: The user's uids, each with its source.
        consents: All values of `user.consent`, in both places.
        regs: The privacy signals of `regs`.
        tracking: The privacy signals of the device.
        user: With configured members, if decoded.
        user_ext: Likewise.
        device: Likewise.
        device_ext: Likewise.
        copies: The whole request by `rtb.openrtb.copies`, if that read it. Of protobuf, the members
            of `rtb.openrtb.artf`.
        data_messages: Each element of `user.data` as protobuf; `None` for JSON.
        is_odd: A part is of the wrong type: its signals are lost.
        is_scanned: Positions of members are known; nothing to strip.
        user_end: The end of `user`, an object, in the body; 0: unknown.
        data_end: The end of `user.data`, an array; 0: unknown.
    """

    __slots__ = (
        "_data_at",
        "_decode_head",
        "_head",
        "_user_at",
        "_user_raw",
        "body",
        "consents",
        "copies",
        "data_end",
        "data_messages",
        "device",
        "device_ext",
        "is_odd",
        "is_scanned",
        "regs",
        "tmax",
        "tracking",
        "uids",
        "user",
        "user_end",
        "user_ext",
    )

    def __init__(
        self,
        body: bytes,
        decode_head: Callable[[bytes], BidRequest],
        tmax: Any,
        uids: list[SourcedUid],
        user: User,
        user_ext: UserExt,
        device: Device,
        device_ext: DeviceExt,
        consents: Said,
        regs: Law,
        tracking: Tracking,
        *,
        is_odd: bool,
        head: BidRequest | None = None,
        user_raw: bytes | None = None,
        copies: Any = None,
        is_scanned: bool = False,
        user_at: int = 0,
        user_end: int = 0,
        data_at: int = 0,
        data_end: int = 0,
        data_messages: list[bytes] | None = None,
    ) -> None:
        self._head = head
        self._decode_head: Final = decode_head
        self._user_raw: Final = user_raw
        self._user_at: Final = user_at
        self._data_at: Final = data_at
        self.body: Final = body
        self.tmax: Final = tmax
        self.uids: Final = uids
        self.user: Final = user
        self.user_ext: Final = user_ext
        self.device: Final = device
        self.device_ext: Final = device_ext
        self.consents: Final = consents
        self.regs: Final = regs
        self.tracking: Final = tracking
        self.copies: Final = copies
        self.is_odd: Final = is_odd
        self.is_scanned: Final = is_scanned
        self.user_end: Final = user_end
        self.data_end: Final = data_end
        self.data_messages: Final = data_messages

    @property
    def head(self) -> BidRequest:
        """The top level; decoded at the first access, which is rare."""
        head = self._head
        if head is None:
            head = self._head = self._decode_head(self.body)
        return head

    @property
    def id_raw(self) -> bytes:
        """`BidRequest.id` (3.2.1) as in the body."""
        try:
            return bytes(self.head.id)
        except msgspec.DecodeError:
            return value_in(self.body, "id") or b""

    @property
    def user_raw(self) -> bytes:
        """`user` as in the body; empty if missing."""
        raw = self._user_raw
        return self.body[self._user_at : self.user_end] if raw is None else raw

    @property
    def user_data(self) -> bytes:
        """`user.data` (3.2.21) as in the body; empty if missing."""
        if self.is_scanned:
            return self.body[self._data_at : self.data_end]
        return bytes(self.user.data)
