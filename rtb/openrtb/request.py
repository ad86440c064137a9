"""
One bid request, decoded as far as we read it: what the stages pass along.

Kept apart from the views, which msgspec fills in: these are classes of ours, and
compiled, where reading a field is reading a place in memory.
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
    A decoded request; never changed.

    A part that is missing, null or odd is an empty one, so that a stage may
    just read it.

    Attributes:
        body: As it came, or as it leaves once something was stripped.
        tmax: `BidRequest.tmax` (3.2.1), whatever stands there.
        uids: What the user is said to be called, and by whom.
        consents: All that is said of `user.consent`, in both its places.
        regs: What the law says of this request.
        tracking: What its device has set.
        user: What is configured to be read there; as far as it was decoded.
        user_ext: Likewise.
        device: Likewise.
        device_ext: Likewise.
        copies: The whole as `rtb.openrtb.copies` reads it, where a member stands twice; else
            `None`.
        is_odd: One of the parts is of a type that it can't have, and its
            signals are thereby lost.
        is_scanned: It is known where its members stand, and that none is there
            that may not leave.
        user_end: Where `user` ends in the body, an object; 0 if that is not known.
        data_end: Where `user.data` does, an array; 0 likewise.
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

    @property
    def head(self) -> BidRequest:
        """The whole at its top level; decoded when it is first asked for, which is seldom."""
        head = self._head
        if head is None:
            head = self._head = self._decode_head(self.body)
        return head

    @property
    def id_raw(self) -> bytes:
        """`BidRequest.id` (3.2.1) as it stands in the body."""
        try:
            return bytes(self.head.id)
        except msgspec.DecodeError:
            return value_in(self.body, "id") or b""

    @property
    def user_raw(self) -> bytes:
        """`user` as it stands in the body; empty if it is not there."""
        raw = self._user_raw
        return self.body[self._user_at : self.user_end] if raw is None else raw

    @property
    def user_data(self) -> bytes:
        """`user.data` (3.2.21) as it stands in the body; empty if it is not there."""
        if self.is_scanned:
            return self.body[self._data_at : self.data_end]
        return bytes(self.user.data)
