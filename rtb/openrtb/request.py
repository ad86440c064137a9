"""
One bid request, decoded as far as we read it: what the stages pass along.

Kept apart from the views, which msgspec fills in: this is a class of ours, and
compiled, where reading a field is reading a place in memory.
"""

from typing import Final, final

from msgspec import Raw
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
        head: The whole at its top level.
        user_raw: `user` as it stands in the body.
        user: The parts that carry identifiers and signals.
        user_ext: Likewise.
        device: Likewise.
        regs: Likewise.
        regs_ext: Likewise.
        is_odd: One of the parts is of a type that it can't have, and its
            signals are thereby lost.
    """

    __slots__ = (
        "body",
        "device",
        "head",
        "is_odd",
        "regs",
        "regs_ext",
        "user",
        "user_ext",
        "user_raw",
    )

    def __init__(
        self,
        body: bytes,
        head: BidRequest,
        user_raw: Raw,
        user: User,
        user_ext: UserExt,
        device: Device,
        regs: Regs,
        regs_ext: RegsExt,
        is_odd: bool,
    ) -> None:
        self.body: Final = body
        self.head: Final = head
        self.user_raw: Final = user_raw
        self.user: Final = user
        self.user_ext: Final = user_ext
        self.device: Final = device
        self.regs: Final = regs
        self.regs_ext: Final = regs_ext
        self.is_odd: Final = is_odd
