"""An input made smaller for as long as a claim holds of it."""

from collections.abc import Callable


def shrunk(data: bytes, is_still: Callable[[bytes], bool], tries: int) -> bytes:
    """
    Leave parts out, large ones first.

    Args:
        data: Of which the claim holds.
        is_still: The claim.
        tries: How often it may be asked.
    """
    length = len(data) // 2
    while length and tries > 0:
        at = 0
        while at < len(data) and tries > 0:
            less = data[:at] + data[at + length :]
            tries -= 1
            if is_still(less):
                data = less
            else:
                at += length
        length //= 2
    return data
