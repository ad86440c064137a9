from collections.abc import Iterable

from rtb.openrtb.decode import Scanned

class Scanner:
    def __init__(
        self,
        forbidden: Iterable[bytes],
        *,
        user: Iterable[bytes],
        user_ext: Iterable[bytes],
        device: Iterable[bytes],
    ) -> None: ...
    def __call__(self, body: bytes) -> Scanned | None: ...
