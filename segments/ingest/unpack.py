"""
A delivered file to a stream of plain bytes: `.txt`, `.csv`, `.gz`, `.zip`.

What a file is, its first bytes say, not its name: no line of hex digits begins
like an archive. A `.zip` holds one file; folders and what macOS adds under
`__MACOSX/` don't count. Names inside an archive are never paths: nothing is
unpacked to disk.

An archive says nothing reliable about how large it will become, so inflation
is bounded as it goes: a block at a time, and in all at most
`MAX_INFLATION` times what was delivered. E-mail hashes are hex digits of
random bits, which no archive can make smaller than half.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, cast

from isal import igzip, isal_zlib

from segments.files.blobs import Blob
from segments.files.chunks import READ_BYTES
from segments.model.stop_reason import Stopped, StopReason

BLOCK_BYTES = 256 << 10
"""How much plain text is in hand at a time; see `parse` for why not more."""

MAX_INFLATION = 100
ALWAYS_ALLOWED_BYTES = 64 << 20
"""A small file of equal lines inflates further, and does no harm."""

_MAX_ZIP_READ_BYTES = 1 << 20

_UNREADABLE = (
    EOFError,  # cut short
    NotImplementedError,  # a compression method that Python lacks
    RuntimeError,  # encrypted
    igzip.BadGzipFile,
    cast("type[Exception]", isal_zlib.error),  # its stub declares an instance
    zipfile.BadZipFile,
    zlib.error,
)


def is_archive(blob: Blob) -> bool:
    """Tell whether the plain bytes differ from the delivered ones."""
    return _head(blob).startswith(_ARCHIVES)


def is_zip(blob: Blob) -> bool:
    """Tell whether it is an archive that may hold more than the one file that is read."""
    return _head(blob).startswith(_ZIPS)


def plain_blocks(blob: Blob) -> Iterator[bytes]:
    """
    Yield the plain bytes of a delivered file in blocks of at most `BLOCK_BYTES`.

    Raises:
        Stopped: UNREADABLE_FILE or INFLATES_TOO_FAR.
    """
    left_bytes = max(ALWAYS_ALLOWED_BYTES, blob.size_bytes * MAX_INFLATION)
    try:
        with _open(blob) as plain:
            while block := plain.read(BLOCK_BYTES):
                left_bytes -= len(block)
                if left_bytes < 0:
                    raise Stopped(
                        StopReason.INFLATES_TOO_FAR,
                        f"{blob.size_bytes} bytes that become more than {MAX_INFLATION} times that",
                    )
                yield block
    except _UNREADABLE as error:
        # The library's own message may quote the name of a member.
        raise Stopped(StopReason.UNREADABLE_FILE, f"archive: {_in_words(error)}") from None


_GZIP = b"\x1f\x8b"
_ZIPS = (b"PK\x03\x04", b"PK\x05\x06")  # of something, and of nothing
_ARCHIVES = (_GZIP, *_ZIPS)


def _head(blob: Blob) -> bytes:
    blob.seek(0)
    head = blob.read(4) or b""
    blob.seek(0)
    return head


def _open(blob: Blob) -> IO[bytes]:
    head = _head(blob)
    if head.startswith(_GZIP):
        return cast("IO[bytes]", igzip.open(blob.buffered(), "rb"))  # type: ignore[no-untyped-call]
    if head.startswith(_ZIPS):
        return _only_member(zipfile.ZipFile(_BoundedReads(blob)))
    return blob.buffered()


def _only_member(archive: zipfile.ZipFile) -> IO[bytes]:
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        raise Stopped(StopReason.UNREADABLE_FILE, f"zip of {len(members)} files, not of one")
    return archive.open(members[0])


class _BoundedReads(io.BufferedReader):
    """
    Refuses a single large read: `zipfile` reads the directory of an archive in
    one, and a directory of a million members is not the one file it may hold.
    """

    def __init__(self, blob: Blob) -> None:
        super().__init__(blob, READ_BYTES)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_ZIP_READ_BYTES:
            raise zipfile.BadZipFile
        return super().read(size)


def _in_words(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "cut short"
    if isinstance(error, RuntimeError):  # and NotImplementedError, its subclass
        return "encrypted, or compressed by a method that is not supported"
    return "damaged"
