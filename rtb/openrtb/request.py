"""
One bid request, decoded as far as we read it: what the stages pass along.

Kept apart from the views, which msgspec fills in: this is a class of ours, and
compiled, where reading a field is reading a place in memory.
"""

from collections.abc import Callable
from typing import Any, Final, final

from mypy_extensions import mypyc_attr

from rtb.openrtb.views import BidRequest, Device, Regs, RegsExt, User, UserExt


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
        user_raw: `user` as it stands in the body; empty if it is not there.
        user: The parts that carry identifiers and signals.
        user_ext: Likewise.
        device: Likewise.
        regs: Likewise.
        regs_ext: Likewise.
        is_odd: One of the parts is of a type that it can't have, and its
            signals are thereby lost.
        is_scanned: It is known where its members stand, and that none is there
            that may not leave.
        user_end: Where `user` ends in the body, an object; 0 if that is not known.
        data_end: Where `user.data` does, an array; 0 likewise.
    """

    __slots__ = (
        "_decode_head",
        "_head",
        "body",
        "data_end",
        "device",
        "is_odd",
        "is_scanned",
        "regs",
        "regs_ext",
        "tmax",
        "user",
        "user_end",
        "user_ext",
        "user_raw",
    )

    def __init__(
        self,
        body: bytes,
        head: BidRequest | None,
        decode_head: Callable[[bytes], BidRequest],
        tmax: Any,
        user_raw: bytes,
        user: User,
        user_ext: UserExt,
        device: Device,
        regs: Regs,
        regs_ext: RegsExt,
        is_odd: bool,
        is_scanned: bool = False,
        user_end: int = 0,
        data_end: int = 0,
    ) -> None:
        self._head = head
        self._decode_head: Final = decode_head
        self.body: Final = body
        self.tmax: Final = tmax
        self.user_raw: Final = user_raw
        self.user: Final = user
        self.user_ext: Final = user_ext
        self.device: Final = device
        self.regs: Final = regs
        self.regs_ext: Final = regs_ext
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
