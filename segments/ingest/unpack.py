"""
Unpacks a delivered file to a stream of plain bytes: `.txt`, `.csv`, `.gz`, `.zip`.

The first bytes of a file determine its format, not its name: no line of hex digits begins like an
archive. A `.zip` holds one file; folders and the additions of Finder and Windows
(`__MACOSX/`, `.DS_Store`, `._*`, `desktop.ini`, `Thumbs.db`) don't count. Names inside an
archive are never paths: nothing is unpacked to disk.

Other kinds are refused by name: read as text, a tar's headers swallow its members' first lines.

An archive's own size fields are unreliable, so inflation is bounded as it proceeds: a block at a
time, and in all `MAX_INFLATION` times the delivered size. No archive compresses hex digits of
random bits below half. Lines and cells cost more than bytes to read, so both count towards the
inflated size: see `Allowance`.
"""

import bz2
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from copy import copy
from typing import IO, TYPE_CHECKING, cast

from isal import igzip, isal_zlib

from segments.files.blob import BeforeBeginning, Blob
from segments.files.chunks import READ_BYTES
from segments.model.stop_reason import Stopped, StopReason

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 256 << 10
"""The most plain text to hold at a time; `parse` says why."""

MAX_INFLATION = 100
ALWAYS_ALLOWED_BYTES = 8 << 20
"""Small files of equal lines inflate further, without harm."""

_LINE_BYTES = 16
_COMMA_BYTES = 4
"""The weight of a line and of a comma: of the shortest lines, 58 KB of gzip were 32 million, and a
minute's work."""

_MAX_ZIP_READ_BYTES = 1 << 20

_UNREADABLE = (
    BeforeBeginning,  # its directory says that the member begins there
    EOFError,  # cut short
    NotImplementedError,  # a compression method that Python lacks
    RuntimeError,  # encrypted
    igzip.BadGzipFile,
    cast("type[Exception]", isal_zlib.error),  # its stub declares an instance
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    UnicodeDecodeError,  # a name that is said to be UTF-8: https://github.com/python/cpython/issues/153426
)


class Allowance:
    """The size to which a file may inflate."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._left_bytes = max(ALWAYS_ALLOWED_BYTES, size_bytes * MAX_INFLATION)

    def take(self, block: bytes) -> None:
        """
        Count a block of text.

        Raises:
            Stopped: INFLATES_TOO_FAR.
        """
        lines, commas = block.count(b"\n"), block.count(b",")
        self.take_bytes(len(block) + lines * _LINE_BYTES + commas * _COMMA_BYTES)

    def take_bytes(self, count: int) -> None:
        """
        Count the equivalent of some bytes.

        Raises:
            Stopped: INFLATES_TOO_FAR.
        """
        self._left_bytes -= count
        if self._left_bytes < 0:
            raise Stopped(
                StopReason.INFLATES_TOO_FAR,
                f"{self._size_bytes} bytes that become more than {MAX_INFLATION} times that",
            )


def is_archive(blob: Blob) -> bool:
    """Tell whether the plain bytes differ from the delivered ones."""
    return _head(blob).startswith(_ARCHIVES)


def is_zip(blob: Blob) -> bool:
    """Tell whether a file is an archive of possibly several members."""
    return _head(blob).startswith(_ZIPS)


def plain_blocks(blob: Blob) -> Iterator[bytes]:
    """
    Yield the plain bytes of a delivered file in blocks of at most `BLOCK_BYTES`.

    Raises:
        Stopped: UNREADABLE_FILE or INFLATES_TOO_FAR.
    """
    allowance = Allowance(blob.size_bytes) if is_archive(blob) else None
    is_first = True
    try:
        with _open(blob) as plain:
            while block := plain.read(BLOCK_BYTES):
                if is_first:
                    refuse_other_kinds(block)
                    is_first = False
                if allowance is not None:
                    allowance.take(block)
                yield block
    except _UNREADABLE as error:
        # The library's message may quote the name of a member.
        raise Stopped(StopReason.UNREADABLE_FILE, f"archive: {_in_words(error)}") from None


_GZIP = b"\x1f\x8b"
_ZIPS = (b"PK\x03\x04", b"PK\x05\x06")  # with and without members
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

_UNBOUNDED_METHODS = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_MAX_LZMA_BYTES = 128 << 20
"""Of memory: the largest dictionary that archivers offer is 64 MiB."""
_ENDS_WITH_MARKER = 0x2
_PACKED_BYTES = 4096

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
    found = archive.infolist()
    if not all(member.filename for member in found):
        raise zipfile.BadZipFile  # Python 3.11 fails to tell whether it is a folder
    members = [
        member
        for member in found
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
    if member.compress_type in _UNBOUNDED_METHODS:
        return io.BufferedReader(_BoundedMember(archive, member), BLOCK_BYTES)
    return archive.open(member)


def refuse_other_kinds(first: bytes) -> None:
    """
    Refuse plain bytes that are no text, by the name of their format.

    Raises:
        Stopped: UNREADABLE_FILE.
    """
    for magic, kind in _OTHER_KINDS:
        if first.startswith(magic):
            raise _unreadable(f"{kind}: {_WHAT_TO_SEND}")
    if _is_tar(first):
        raise _unreadable(f"a tar archive: {_WHAT_TO_SEND}")


def _is_tar(first: bytes) -> bool:
    """Detect a tar by its first block's checksum, which even the oldest have (POSIX.1, ustar)."""
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
    """Refuses a large read: `zipfile` reads at once the directory, even of a million members."""

    def __init__(self, blob: Blob) -> None:
        super().__init__(blob, READ_BYTES)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_ZIP_READ_BYTES:
            raise zipfile.BadZipFile
        return super().read(size)


class _BoundedMember(io.RawIOBase):
    """
    The file in a zip with BZip2 or LZMA.

    `zipfile` inflates all of its input at once: 800 bytes of BZip2 become a gigabyte.
    """

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        self._crc = member.CRC
        self._found_crc = 0
        packed = copy(member)
        packed.compress_type = zipfile.ZIP_STORED
        packed.file_size = member.compress_size
        del packed.CRC  # it covers the inflated bytes
        self._packed = archive.open(packed)
        self._decompressor: bz2.BZ2Decompressor | lzma.LZMADecompressor
        if member.compress_type == zipfile.ZIP_BZIP2:
            self._decompressor = bz2.BZ2Decompressor()
            self._head = b""
        else:
            # APPNOTE.TXT, 5.8.8: version, properties' size, properties; then as in `.lzma`.
            version_and_size = self._packed.read(4)
            properties = self._packed.read(int.from_bytes(version_and_size[2:], "little"))
            is_open = member.flag_bits & _ENDS_WITH_MARKER
            size = b"\xff" * 8 if is_open else member.file_size.to_bytes(8, "little")
            self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, _MAX_LZMA_BYTES)
            self._head = properties + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer)
        plain = b""
        while not plain and not self._decompressor.eof:
            packed = self._input()
            try:
                plain = self._decompressor.decompress(packed, len(view))
            except OSError:  # BZip2: damaged
                raise zipfile.BadZipFile from None
        view[: len(plain)] = plain
        self._found_crc = zlib.crc32(plain, self._found_crc)
        if self._decompressor.eof and not plain and self._found_crc != self._crc:
            raise zipfile.BadZipFile
        return len(plain)

    def _input(self) -> bytes:
        if not self._decompressor.needs_input:
            return b""
        head, self._head = self._head, b""
        packed = head or self._packed.read(_PACKED_BYTES)
        if not packed:
            raise EOFError
        return packed


def _in_words(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "cut short"
    if isinstance(error, RuntimeError):  # and NotImplementedError, its subclass
        return "encrypted, or compressed by a method that is not supported"
    if isinstance(error, UnicodeDecodeError):
        return "the file in it has a name that is no UTF-8: zip it under a plain name"
    return "damaged"
