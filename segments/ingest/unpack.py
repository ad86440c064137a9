"""
A delivered file to a stream of plain bytes: `.txt`, `.csv`, `.gz`, `.zip`.

What a file is, its first bytes say, not its name: no line of hex digits begins
like an archive. A `.zip` holds one file; folders and what Finder and Windows add
(`__MACOSX/`, `.DS_Store`, `._*`, `desktop.ini`, `Thumbs.db`) don't count. Names
inside an archive are never paths: nothing is unpacked to disk.

A file of another kind is refused by the name of its kind, before a line of it is
read: the headers of a tar are lines to a reader of text, and the first line of each
member is lost in them.

An archive says nothing reliable about how large it will become, so inflation
is bounded as it goes: a block at a time, and in all at most
`MAX_INFLATION` times what was delivered. E-mail hashes are hex digits of
random bits, which no archive can make smaller than half.
"""

import io
import re
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
    is_first = True
    try:
        with _open(blob) as plain:
            while block := plain.read(BLOCK_BYTES):
                if is_first:
                    refuse_other_kinds(block)
                    is_first = False
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
_OTHER_KINDS = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\x04\x22\x4d\x18", "an lz4 file"),
    (b"PAR1", "a Parquet file"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"%PDF-", "a PDF"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook of before 2007"),
    (_GZIP, "a .gz within a .gz"),
    (b"PK\x03\x04", "a .zip within an archive"),
)
_WHAT_TO_SEND = "send one text file, as it is or as .gz or .zip"
_PASSED_OVER = re.compile(r"(?i)(.*/)?(__MACOSX/.*|\.DS_Store|\._[^/]*|desktop\.ini|Thumbs\.db)")
_IS_ENCRYPTED = 0x1
_METHODS = {
    1: "Shrink",
    6: "Implode",
    9: "Deflate64 (Windows Explorer writes it above 2 GiB)",
    93: "Zstandard",
    95: "XZ",
    98: "PPMd",
}
_READABLE_METHODS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
    zipfile.ZIP_BZIP2,
    zipfile.ZIP_LZMA,
)

_TAR_BLOCK_BYTES = 512
_TAR_CHECKSUM = slice(148, 156)


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
        if not member.is_dir() and not _PASSED_OVER.fullmatch(member.filename)
    ]
    if any(member.filename == "xl/workbook.xml" for member in members):
        raise _unreadable("an Excel workbook: save it as CSV, and send that")
    if len(members) != 1:
        raise _unreadable(f"a zip of {len(members)} files: send one file a zip")
    [member] = members
    if member.flag_bits & _IS_ENCRYPTED:
        raise _unreadable("an encrypted zip: send it without a password")
    if member.compress_type not in _READABLE_METHODS:
        method = _METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise _unreadable(f"a zip compressed by {method}: use Deflate, or send a .gz")
    return archive.open(member)


def refuse_other_kinds(first: bytes) -> None:
    """
    Refuse plain bytes that are no text, by the name of what they are.

    Raises:
        Stopped: UNREADABLE_FILE.
    """
    for magic, kind in _OTHER_KINDS:
        if first.startswith(magic):
            raise _unreadable(f"{kind}: {_WHAT_TO_SEND}")
    if _is_tar(first):
        raise _unreadable(f"a tar archive: {_WHAT_TO_SEND}")


def _is_tar(first: bytes) -> bool:
    """Tell a tar by the sum over its first block, which also the oldest have (POSIX.1, ustar)."""
    block = first[:_TAR_BLOCK_BYTES]
    if len(block) < _TAR_BLOCK_BYTES:
        return False
    try:
        checksum = int(block[_TAR_CHECKSUM].strip(b" \0"), 8)
    except ValueError:
        return False
    blank = b" " * (_TAR_CHECKSUM.stop - _TAR_CHECKSUM.start)
    return sum(block[: _TAR_CHECKSUM.start] + blank + block[_TAR_CHECKSUM.stop :]) == checksum


def _unreadable(detail: str) -> Stopped:
    return Stopped(StopReason.UNREADABLE_FILE, detail)


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
