"""
Checksums that a client announces for its upload, compared with the bytes received.

    Content-MD5              RFC 1864; base64
    x-amz-checksum-*         crc32, crc32c, crc64nvme, sha1, sha256; base64 (S3's PutObject)
    x-amz-content-sha256     hex; any other value (UNSIGNED-PAYLOAD) announces nothing
    Content-Digest           RFC 9530: sha-256, sha-512; Repr-Digest and RFC 3230's Digest alike

A malformed checksum, a partial body and a body with chunk framing of its own are refused
before the first byte is read; a mismatch is refused after the last. Nothing is kept then, and the
URL stays usable. Unknown algorithms are ignored.
"""

import binascii
import hashlib
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

import anycrc
from aiohttp import hdrs

from segments.doors.rest.problem import Problem

_AMZ_CHECKSUM = "x-amz-checksum-"
_AMZ_SHA256 = "x-amz-content-sha256"
_DIGEST_HEADERS = ("Content-Digest", "Repr-Digest", "Digest")
_DIGEST_MEMBER = re.compile(r"\s*([A-Za-z0-9*._-]+)\s*=\s*:?([A-Za-z0-9+/=]*):?\s*(?:;[^,]*)?")
_HEX_OF_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class _Hash(Protocol):
    def update(self, chunk: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, model: str, width_bytes: int) -> None:
        self._model = anycrc.Model(model)
        self._crc = int(self._model.calc(b""))
        self._width_bytes = width_bytes

    def update(self, chunk: bytes) -> None:
        self._crc = int(self._model.calc(chunk, self._crc))

    def digest(self) -> bytes:
        return self._crc.to_bytes(self._width_bytes, "big")


def _md5() -> _Hash:
    return hashlib.md5(usedforsecurity=False)


def _sha1() -> _Hash:
    return hashlib.sha1(usedforsecurity=False)


_AMZ: Mapping[str, Callable[[], _Hash]] = {
    "crc32": lambda: _Crc("CRC32-ISO-HDLC", 4),
    "crc32c": lambda: _Crc("CRC32-ISCSI", 4),
    "crc64nvme": lambda: _Crc("CRC64-NVME", 8),
    "sha1": _sha1,
    "sha256": hashlib.sha256,
}
_DIGESTS: Mapping[str, Callable[[], _Hash]] = {
    "md5": _md5,
    "sha": _sha1,
    "sha-256": hashlib.sha256,
    "sha-512": hashlib.sha512,
}


class _Announced(NamedTuple):
    header: str
    hash: _Hash
    digest: bytes


class Checksums:
    """A request's checksums. Feed the body, then check."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """
        Raises:
            Problem: 400: a partial file, chunks framed by the client, or a malformed checksum.
        """
        _check_whole(headers)
        self._announced = list(_announced(headers))

    def update(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        for each in self._announced:
            each.hash.update(chunk)

    def check(self) -> None:
        """
        Compare all checksums, after the last byte.

        Raises:
            Problem: 400, naming the header.
        """
        for each in self._announced:
            if each.hash.digest() != each.digest:
                raise Problem(
                    400,
                    f"the received bytes do not match {each.header}: nothing was kept,"
                    " send the file again",
                )


def _check_whole(headers: Mapping[str, str]) -> None:
    if hdrs.CONTENT_RANGE in headers:
        # RFC 9110, 14.5: a server may take a partial PUT for the whole.
        raise Problem(400, "a Content-Range: send the whole file in one request")
    if headers.get(_AMZ_SHA256, "").startswith("STREAMING-"):
        raise Problem(400, f"{_AMZ_SHA256} of a STREAMING- kind: send the file as it is")
    if "aws-chunked" in headers.get(hdrs.CONTENT_ENCODING, "").lower():
        raise Problem(400, "a Content-Encoding of aws-chunked: send the file as it is")


def _announced(headers: Mapping[str, str]) -> Iterator[_Announced]:
    if hdrs.CONTENT_MD5 in headers:
        digest = _decoded(hdrs.CONTENT_MD5, headers[hdrs.CONTENT_MD5], 16)
        yield _Announced(hdrs.CONTENT_MD5, _md5(), digest)
    for name, new in _AMZ.items():
        header = _AMZ_CHECKSUM + name
        if header in headers:
            hash_ = new()
            yield _Announced(header, hash_, _decoded(header, headers[header], len(hash_.digest())))
    sha256 = headers.get(_AMZ_SHA256, "").strip()
    if _HEX_OF_SHA256.fullmatch(sha256):
        yield _Announced(_AMZ_SHA256, hashlib.sha256(), bytes.fromhex(sha256))
    for header in _DIGEST_HEADERS:
        for member in headers.get(header, "").split(",") if header in headers else ():
            found = _DIGEST_MEMBER.fullmatch(member)
            if found is None:
                raise Problem(400, f"a {header} that can't be read")
            algorithm = found[1].lower()
            if algorithm in _DIGESTS:
                hash_ = _DIGESTS[algorithm]()
                yield _Announced(header, hash_, _decoded(header, found[2], len(hash_.digest())))


def _decoded(header: str, text: str, length: int) -> bytes:
    try:
        digest = b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != length:
        raise Problem(400, f"a {header} that is not {length} bytes in base64")
    return digest
