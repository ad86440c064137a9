from collections.abc import Iterable

class Scanner:
    def __init__(self, forbidden: Iterable[bytes]) -> None: ...
    def __call__(
        self, body: bytes
    ) -> tuple[bytes, bytes, bytes, int | None, int, int, bool] | None: ...
