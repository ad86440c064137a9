from collections.abc import Iterable
from typing import Literal

from rtb.openrtb.places import Scanned

class Scanner:
    def __init__(
        self,
        forbidden: Iterable[bytes],
        *,
        user: Iterable[bytes],
        user_ext: Iterable[bytes],
        device: Iterable[bytes],
        device_ext: Iterable[bytes],
        regs: Iterable[bytes],
        regs_ext: Iterable[bytes],
    ) -> None: ...
    def __call__(self, body: bytes) -> Scanned | Literal[False] | None: ...
