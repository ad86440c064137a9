"""
Turns identifiers into keys; no other module does.

Both planes call this module, to agree byte for byte: otherwise every lookup misses without an
error.

All kinds become 16 bytes, in a shared key space:

    kind         accepted form                            16-byte id
    e-mail hash  hex MD5, SHA-1 or SHA-256, any case      first 16 bytes of the digest
    phone hash   hex SHA-256, any case                    blake2b-128("phone:" + hex)
    DUID         text of 1 to 256 characters              blake2b-128("duid:" + text)
    device id    UUID, any case, not all-zero             blake2b-128("ifa:" + lower case)
    other eid    source and uid                           blake2b-128("eid:" + source + ":" + uid)

An e-mail hash is not hashed again: its bytes are evenly spread. 128 bits make a collision among
10^10 ids less likely than 10^-18.

**Some digests are no person's** (`NO_PERSON`): those of the empty text, and placeholders of only
zeros or only `f`. All persons without an address would share the id.
"""

import re
from binascii import unhexlify
from collections.abc import Callable
from enum import StrEnum
from hashlib import blake2b, md5, sha1, sha256
from typing import Final, NewType

Id = NewType("Id", bytes)
"""16 bytes that stand for an identifier of a person."""

ID_BYTES: Final = 16
MAX_TEXT_CHARS: Final = 256
MAX_ADDRESS_CHARS: Final = 320  # 64 before the @, 255 after it: RFC 3696, erratum 1690

EMAIL_HASH_CHARS: Final = {"md5": 32, "sha1": 40, "sha2": 64}
"""Length of each accepted e-mail hash in hex, by its vendor's name for it."""

NO_PERSON: Final = frozenset(
    digest[:ID_BYTES]
    for digest in (
        md5(b"", usedforsecurity=False).digest(),
        sha1(b"", usedforsecurity=False).digest(),
        sha256(b"").digest(),
        bytes(ID_BYTES),
        b"\xff" * ID_BYTES,
    )
)
"""
The first 16 bytes of no person's digests. For a real address, a match is as likely as a collision.
"""

_ACCEPTED_DIGEST_CHARS: Final = frozenset(EMAIL_HASH_CHARS.values())
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NO_DEVICE: Final = "00000000-0000-0000-0000-000000000000"
_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_MARKED_DIGEST: Final = re.compile(
    r"[\s'\"]*(?:0x|\\x|(?:sha-?256|sha-?1|md5)[:=]\s*)?([0-9a-f]{32,64})[\s'\",;]*", re.IGNORECASE
)
_MARKED_UUID: Final = re.compile(
    r"[\s'\"{]*([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})[\s'\"}]*",
    re.IGNORECASE,
)
_MOST_MARKED_CHARS: Final = 128


class IdentifierKind(StrEnum):
    """The kind of identifier; also a metric label."""

    EMAIL = "email"
    PHONE = "phone"
    DUID = "duid"
    IFA = "ifa"
    EID = "eid"

    # Enum's own is a Python function.
    __hash__ = str.__hash__


class UnusableId(ValueError):
    """
    The text is not an identifier of its kind; the message does not quote it.
    """


class NoPerson(UnusableId):
    """The text is a digest of no person: see `NO_PERSON`."""

    def __init__(self) -> None:
        super().__init__("a hash of nothing, or a placeholder, which is no person's")


def id_of_email_hash(digest: str) -> Id:
    """
    Return the id of a hashed e-mail address.

    Args:
        digest: MD5, SHA-1 or SHA-256 in hex, any case, of the lower-cased address (LiveAudience,
            "Email hash data file"), which can't be checked.

    Raises:
        UnusableId: Not 32, 40 or 64 hex digits; `NoPerson` for a digest of no person.
    """
    try:
        raw = unhexlify(digest)
    except ValueError:
        raw = b""
    if len(digest) not in _ACCEPTED_DIGEST_CHARS or not raw:
        raise UnusableId(f"e-mail hash of {len(digest)} characters, not 32, 40 or 64 hex digits")
    return _of_somebody(raw)


def id_of_address(address: str) -> Id:
    """
    Return the id of an e-mail address: that of its SHA-256.

    Raises:
        UnusableId: As `address_bytes`.
    """
    return _of_somebody(sha256(address_bytes(address)).digest())


def tail_of_email_hash(digest: str) -> bytes:
    """
    Return the bytes of an accepted e-mail hash after its id: 0, 4 or 16 bytes.

    Raises:
        ValueError: Not hex.
    """
    return bytes.fromhex(digest)[ID_BYTES:]


def email_hash_of(id_: Id, tail: bytes) -> str:
    """Return the hash of an id and its tail, in lower case."""
    return id_.hex() + tail.hex()


def address_bytes(address: str) -> bytes:
    """
    Return an e-mail address's bytes to hash: in lower case, in UTF-8.

    Raises:
        UnusableId: Too long for an address, or not encodable.
    """
    lower = address.lower()
    if len(lower) > MAX_ADDRESS_CHARS:
        raise UnusableId(f"e-mail address of {len(lower)} characters")
    try:
        return lower.encode()
    except UnicodeEncodeError:
        pass
    # Not in `except`: the context would quote the text.
    raise UnusableId(f"e-mail address of {len(lower)} characters that is not Unicode text")


def hashes_of_address(address: str) -> tuple[str, str, str]:
    """
    Return the MD5, SHA-1 and SHA-256 of an e-mail address, in hex.

    Raises:
        UnusableId: As `address_bytes`.
    """
    raw = address_bytes(address)
    return (
        md5(raw, usedforsecurity=False).hexdigest(),
        sha1(raw, usedforsecurity=False).hexdigest(),
        sha256(raw).hexdigest(),
    )


def id_of_phone_hash(digest: str) -> Id:
    """
    Return the id of a hashed phone number: hex SHA-256, any case.

    Raises:
        UnusableId: Not 64 hex digits; `NoPerson` for a digest of no person.
    """
    if len(digest) != 64 or not _HEX.fullmatch(digest):
        raise UnusableId(f"phone hash of {len(digest)} characters, not 64 hex digits")
    _of_somebody(unhexlify(digest))
    return _blake("phone:" + digest.lower())


def id_of_duid(text: str) -> Id:
    """
    Return the id of a first-party cookie, usually `<12 hex>--<26 char ULID>`.

    Opaque: never trimmed, never lower-cased.

    Raises:
        UnusableId: Empty, too long, or not encodable.
    """
    return _blake("duid:" + _checked(text, "DUID"))


def id_of_ifa(text: str) -> Id:
    """
    Return the id of a device: IDFA or AAID (`device.ifa`; OpenRTB 2.6, 3.2.18).

    Raises:
        UnusableId: Not a UUID, or all zero: the user has switched the id off.
    """
    lower = text.lower()
    if not _UUID.fullmatch(lower):
        raise UnusableId(f"device id of {len(text)} characters, not a UUID")
    if lower == _NO_DEVICE:
        raise UnusableId("device id of zeros only, which is no id")
    return _blake("ifa:" + lower)


def id_of_eid(source: str, uid: str) -> Id:
    """
    Return the id of a person under an identity source.

    Args:
        source: `EID.source`, a canonical domain such as `id5-sync.com` (OpenRTB 2.6, 3.2.27). Case
            is ignored.
        uid: `UID.id` (3.2.28). Opaque: never trimmed, never lower-cased.

    Raises:
        UnusableId: `source` or `uid` is empty, too long, or not encodable, or `source` has a colon.
    """
    if ":" in source:
        # With a colon, a source could forge another's ids.
        raise UnusableId(f"eid source of {len(source)} characters with a colon")
    return _blake(f"eid:{_checked(source, 'eid source').lower()}:{_checked(uid, 'uid')}")


def unmarked_digest(text: str) -> str:
    """
    Unwrap a bid sender's hash: within blanks or quotes, or after `0x` or its function's name.

    Other text is unchanged.
    """
    match = _MARKED_DIGEST.fullmatch(text) if len(text) <= _MOST_MARKED_CHARS else None
    return match[1] if match else text


def unmarked_uuid(text: str) -> str:
    """
    Unwrap a bid sender's device id: within blanks, quotes or braces, or without dashes.

    Other text is unchanged.
    """
    match = _MARKED_UUID.fullmatch(text) if len(text) <= _MOST_MARKED_CHARS else None
    return "-".join(match.groups()) if match else text


def parse_id(text: str) -> tuple[IdentifierKind, Id]:
    """
    Parse an identifier as people type it.

    Args:
        text: A bare e-mail hash or device id, or `email:HASH`, `phone:HASH`, `duid:TEXT`,
            `ifa:UUID`, `eid:SOURCE:UID`.

    Raises:
        UnusableId: None of these forms.
    """
    prefix, colon, rest = text.partition(":")
    kind = prefix.lower()
    if colon and kind == IdentifierKind.EID:
        source, _, uid = rest.partition(":")
        return IdentifierKind.EID, id_of_eid(source, uid)
    if colon and kind in _PREFIXED:
        return IdentifierKind(kind), _PREFIXED[IdentifierKind(kind)](rest)
    if _UUID.fullmatch(text.lower()):
        return IdentifierKind.IFA, id_of_ifa(text)
    if len(text) in _ACCEPTED_DIGEST_CHARS:
        return IdentifierKind.EMAIL, id_of_email_hash(text)
    raise UnusableId(
        f"{len(text)} characters that are no e-mail hash (32, 40 or 64 hex digits), no device id"
        " (UUID), and have no prefix of email:, phone:, duid:, ifa:, eid:SOURCE:"
    )


_PREFIXED: Final[dict[IdentifierKind, Callable[[str], Id]]] = {
    IdentifierKind.EMAIL: id_of_email_hash,
    IdentifierKind.PHONE: id_of_phone_hash,
    IdentifierKind.DUID: id_of_duid,
    IdentifierKind.IFA: id_of_ifa,
}


def _of_somebody(digest: bytes) -> Id:
    """Return a digest's first 16 bytes; raise `NoPerson` if it is no person's."""
    id_ = digest[:ID_BYTES]
    if id_ in NO_PERSON:
        raise NoPerson
    return Id(id_)


def _checked(text: str, what: str) -> str:
    if not 0 < len(text) <= MAX_TEXT_CHARS:
        raise UnusableId(f"{what} of {len(text)} characters, not 1 to {MAX_TEXT_CHARS}")
    return text


def _blake(text: str) -> Id:
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raw = b""
    if not raw:
        # A lone surrogate: valid in JSON, not in UTF-8. Outside the handler: the context would
        # quote the text.
        raise UnusableId(f"{len(text)} characters that are not Unicode text")
    return Id(blake2b(raw, digest_size=ID_BYTES).digest())
