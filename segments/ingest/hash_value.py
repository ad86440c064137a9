r"""
Decodes a value to its digest, or classifies its shape.

The document's form is hex ("MD5, SHA1 or SHA2 hashed email addresses"). An extra mark is accepted:

    <hex>,   <hex>;        a spreadsheet's empty column
    '<hex>'  "<hex>"       quoted for SQL, or for CSV
    0x<hex>  \x<hex>       a binary column of SQL Server, of PostgreSQL
    sha256:<hex>           an algorithm as prefix, if the length agrees
    U+FEFF<hex>            the byte order mark of an appended file

Many words are valid base64, so `parse` accepts base64 only for a whole file.

Reports give only the shape of other values, which are most often plain e-mail addresses.
"""

import codecs
import re
from binascii import Error as NotDecodable
from binascii import a2b_base64, unhexlify

from segments.model.identity import EMAIL_HASH_CHARS
from segments.model.job import BadLineReason

CHARS_TO_TYPE = {chars: name for name, chars in EMAIL_HASH_CHARS.items()}
BYTES_TO_TYPE = {chars // 2: name for chars, name in CHARS_TO_TYPE.items()}
PADDING = b" \t\r\v\f"

_QUOTES = (b'"', b"'")
_ALGORITHM = re.compile(rb"(?i)(md5|sha-?1|sha-?256|sha-?2):\s*")
_BINARY_PREFIXES = (b"0x", b"0X", b"\\x", b"\\\\x")
_HEX = re.compile(rb"[0-9a-fA-F]+")
_FEWEST_HEX_CHARS = min(CHARS_TO_TYPE)
_MANY_HEX_CHARS = 20
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]+|[A-Za-z0-9_-]+)={0,2}")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_UUID = re.compile(rb"\{?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}?")
_PHONE = re.compile(rb"\+?[0-9][0-9 ().-]{5,22}")
_NULLS = frozenset(
    rb"\n null (null) [null] <null> none nan na n/a #n/a <na>".split()  # in lower case
)
_BETWEEN_VALUES = re.compile(rb"[,;\t|]")


def bare(value: bytes) -> bytes:
    """Return a value without its padding and quotes."""
    value = value.strip(PADDING)
    if len(value) > 1 and value[:1] == value[-1:] and value[:1] in _QUOTES:
        value = value[1:-1].strip(PADDING)
    return value


def is_null(value: bytes) -> bool:
    """Tell whether a value is a warehouse's or spreadsheet's null."""
    return value.lower() in _NULLS


def hex_digest(value: bytes) -> bytes | None:
    """
    Return the 16, 20 or 32 bytes (MD5, SHA-1, SHA-256) of a hex value without padding, or `None`.
    """
    if len(value) < _FEWEST_HEX_CHARS:  # with or without marks
        return None
    digest = _unhex(value)
    return digest if digest is not None else _unhex(_without_marks(value))


def base64_digest(value: bytes) -> bytes | None:
    """Return the digest of a base64 value, URL-safe or not, or `None`."""
    if not _BASE64.fullmatch(value):
        return None
    plain = value.rstrip(b"=").translate(_URL_SAFE)
    try:
        digest = a2b_base64(plain + b"=" * (-len(plain) % 4), strict_mode=True)
    except NotDecodable:
        return None
    return digest if len(digest) in BYTES_TO_TYPE else None


def shape_of(value: bytes) -> BadLineReason:
    """Return the shape of a value that is no digest."""
    if not value or is_null(value):
        return BadLineReason.EMPTY
    if b"@" in value:
        return BadLineReason.EMAIL_ADDRESS
    if _UUID.fullmatch(value):
        return BadLineReason.UUID
    if is_long_hex(value):
        return BadLineReason.HEX_OF_OTHER_LENGTH
    if base64_digest(value) is not None:
        return BadLineReason.BASE64
    if _PHONE.fullmatch(value):
        return BadLineReason.PHONE_NUMBER
    if _BETWEEN_VALUES.search(value):
        return BadLineReason.SEVERAL_VALUES
    return BadLineReason.NOT_A_HASH


def is_long_hex(value: bytes) -> bool:
    """Tell whether a value has enough hex digits to be meant as a hash."""
    return len(value) >= _MANY_HEX_CHARS and _HEX.fullmatch(value) is not None


def _unhex(value: bytes) -> bytes | None:
    if len(value) not in CHARS_TO_TYPE:
        return None
    try:
        return unhexlify(value)
    except NotDecodable:
        return None


def _without_marks(value: bytes) -> bytes:
    value = value.removeprefix(codecs.BOM_UTF8)
    value = bare(value[:-1]) if value[-1:] in (b",", b";") else bare(value)
    algorithm = _ALGORITHM.match(value)
    if algorithm is not None:
        rest = value[algorithm.end() :]
        named = algorithm[1].lower().replace(b"-", b"").replace(b"sha256", b"sha2").decode()
        return rest if CHARS_TO_TYPE.get(len(rest)) == named else b""
    for prefix in _BINARY_PREFIXES:
        if value.startswith(prefix):
            return value[len(prefix) :]
    return value
