"""
The characters that consent strings are written in: six bits each, no padding (RFC 4648, 5).

Strict: a character that is none of the alphabet makes the whole unreadable,
where the decoder of the standard library would skip it and thereby move every
bit behind it.
"""

import binascii

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TO_STANDARD = bytes(
    {ord("-"): ord("+"), ord("_"): ord("/")}.get(byte, byte if byte in _ALPHABET else ord("!"))
    for byte in range(256)
)
"""A byte to what binascii calls it; whatever does not belong to what it refuses."""

_FILL = (b"", b"AAA", b"AA", b"A")


def unfold(text: str) -> bytes | None:
    """
    Decode a string.

    Returns:
        Its bits, filled up with zeros to a multiple of 24: whoever reads them
        minds that only the first `6 * len(text)` were said. `None` if it is
        not base64url.
    """
    if not text.isascii():
        return None
    standard = text.encode().translate(_TO_STANDARD) + _FILL[len(text) & 3]
    try:
        return binascii.a2b_base64(standard, strict_mode=True)
    except binascii.Error:
        return None
