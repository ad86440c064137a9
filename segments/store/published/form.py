r"""
The format of published files: the whole store (a full), or its changes (an increment).

    head        `rtb-segments full 1\n`, as text: kind and schema
    then, compressed by zstd:
      header    ledger, state, layout
      opt-outs  of an increment: those after the previous state's number
      buckets   each whole, as a RESTORE payload; an empty payload: the bucket is gone
      catalog   if it has changed; always in a full
      end       SHA-256 of everything before it, head included

A part is a letter, its size, and its bytes. Numbers are big-endian.

    opt-out   number u64 | action u8 | account u32 | bucket u32 | field, 8 bytes
    bucket    number u32 | size u32 | payload

Payloads are `segments.store.restore_payload`'s, no server's DUMP: Valkey refuses newer Redis's RDB
versions, and vice versa. Bucket and field identify a person, as in the store.

A truncated, damaged or newer file raises an error, at its end at the latest. So nothing may be used
before `parts` is exhausted, unless a checksum was compared (`segments.store.published.latest`).
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import IO, Final, NamedTuple

import msgspec

from segments.model.catalog import CatalogSnapshot
from segments.model.record import LAYOUT_VERSION, OptOutAction
from segments.store import keys
from segments.store.published.zstd import ZstdDecompressor, ZstdError, compressor

SCHEMA: Final = 1
"""Raised when an older reader would misread a file, or must not use it."""

_MAX_PART_BYTES: Final = 64 << 20
_READ_BYTES: Final = 1 << 20
_MAX_HEAD_BYTES: Final = 64
_PRODUCT: Final = "rtb-segments"

_PART: Final = struct.Struct(">cI")
_OPT_OUT: Final = struct.Struct(">QBII8s")
_BUCKET: Final = struct.Struct(">II")

_HEADER, _OPT_OUTS, _BUCKETS, _CATALOG, _END = b"H", b"O", b"B", b"C", b"E"


UNREADABLE_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""msgspec's, for other JSON, other text than UTF-8, and arrays nested a thousand deep."""


class Kind(StrEnum):
    """The kind of a published file."""

    FULL = "full"
    INCREMENT = "increment"


class UnreadableFile(Exception):
    """A published file can't be used; the message says why."""


class DamagedFile(UnreadableFile):
    """The file is truncated, was changed, or is not ours."""


class NewerFile(UnreadableFile):
    """The file was written by a later version of this software."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """State and layout of a file."""

    ledger: str
    """The ledger's id."""
    number: int
    """Of the resulting state; higher than all before in the ledger."""
    behind: int | None = None
    """Of an increment, the number of the state that it applies to; `None`: a full."""
    made_at_s: float
    """Unix time."""
    opt_outs: int
    """The last of the resulting state, by the ledger's number."""
    bucket_bits: int
    layout: int = keys.LAYOUT
    """Of the store; see `segments.store.keys`."""
    record_layout: int = LAYOUT_VERSION
    """Of a record; see `segments.model.record`."""

    @property
    def kind(self) -> Kind:
        """Full or increment."""
        return Kind.FULL if self.behind is None else Kind.INCREMENT


class PublishedOptOut(NamedTuple):
    """An opt-out of an id, by the id's place in the store."""

    number: int
    action: OptOutAction
    account_id: int
    bucket: int
    field: bytes


class Bucket(NamedTuple):
    """A whole bucket."""

    number: int
    payload: bytes
    """For RESTORE; empty: the bucket is gone."""


Part = Sequence[PublishedOptOut] | Sequence[Bucket] | CatalogSnapshot


class Written(NamedTuple):
    """Size and checksum of a written file."""

    size_bytes: int
    sha256: str


class FileWriter:
    """
    Writes a file, part by part, in the order of the module's table; leaves the `sink` open.
    """

    def __init__(self, sink: IO[bytes], header: Header) -> None:
        self._sink = sink
        self._compressor = compressor()
        self._content = sha256()
        self._file = sha256()
        self._size_bytes = 0
        head = f"{_PRODUCT} {header.kind} {SCHEMA}\n".encode()
        self._content.update(head)
        self._write(head)
        self._part(_HEADER, msgspec.json.encode(header))

    def opt_outs(self, opt_outs: Iterable[PublishedOptOut]) -> None:
        """Write some opt-outs; may be called again."""
        self._part(_OPT_OUTS, b"".join(_OPT_OUT.pack(*each) for each in opt_outs))

    def buckets(self, buckets: Iterable[Bucket]) -> None:
        """Write a few MiB of buckets at most; may be called again."""
        pack = _BUCKET.pack
        self._part(
            _BUCKETS,
            b"".join(
                [piece for n, payload in buckets for piece in (pack(n, len(payload)), payload)]
            ),
        )

    def catalog(self, catalog: CatalogSnapshot) -> None:
        """Write the catalog."""
        self._part(_CATALOG, msgspec.json.encode(catalog))

    def end(self) -> Written:
        """Write the end, which readers require."""
        self._part(_END, self._content.digest())
        self._write(self._compressor.flush())
        return Written(self._size_bytes, self._file.hexdigest())

    def _part(self, kind: bytes, content: bytes) -> None:
        if len(content) > _MAX_PART_BYTES:
            raise ValueError(f"a part of {len(content)} bytes, {_MAX_PART_BYTES} at most")
        for piece in (_PART.pack(kind, len(content)), content):
            self._content.update(piece)
            self._write(self._compressor.compress(piece))

    def _write(self, piece: bytes) -> None:
        self._file.update(piece)
        self._size_bytes += len(piece)
        self._sink.write(piece)


class FileReader:
    """
    Reads a file from the source's current position; leaves the source open.

    Attributes:
        header: Of the file.

    Raises:
        NewerFile: A later version of this software wrote the file.
        DamagedFile: No version of this software can have written the file.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._content = sha256()
        kind = self._read_head()
        self._decompressor = ZstdDecompressor()
        self._ready = bytearray()
        self.header = _header(*self._next())
        if self.header.kind != kind:
            raise DamagedFile(f"it calls itself {kind}, and its header says {self.header.kind}")

    def parts(self) -> Iterator[Part]:
        """
        Yield the parts after the header; not repeatable.

        Raises:
            DamagedFile: Discard the parts yielded so far.
        """
        while True:
            so_far = self._content.copy().digest()
            kind, content = self._next()
            if kind == _END:
                if content != so_far:
                    raise DamagedFile("its checksum does not match its content")
                if self._ready or self._source.read(1) or not self._decompressor.eof:
                    raise DamagedFile("it goes on behind its end")
                return
            yield _part(kind, content)

    def _read_head(self) -> str:
        head = self._source.readline(_MAX_HEAD_BYTES)
        self._content.update(head)
        words = head.decode("ascii", "replace").split()
        is_ours = len(words) == 3 and words[0] == _PRODUCT and words[2].isdecimal()
        if not is_ours or not head.endswith(b"\n"):
            raise DamagedFile("it does not begin as a published file does")
        if int(words[2]) > SCHEMA:
            raise NewerFile(
                f"it has schema {words[2]} and this software reads schema {SCHEMA}: run the version"
                " that published it, or a later one"
            )
        if int(words[2]) < 1 or words[1] not in set(Kind):
            raise DamagedFile("it does not begin as a published file does")
        return words[1]

    def _next(self) -> tuple[bytes, bytes]:
        kind, size = _PART.unpack(self._take(_PART.size))
        if size > _MAX_PART_BYTES:
            raise DamagedFile(f"a part of {size} bytes, {_MAX_PART_BYTES} at most")
        return kind, self._take(size)

    def _take(self, size: int) -> bytes:
        ready = self._ready
        while len(ready) < size:
            ready += self._decompressed(size - len(ready))
        taken = bytes(ready[:size])
        del ready[:size]
        self._content.update(taken)
        return taken

    def _decompressed(self, wanted: int) -> bytes:
        decompressor = self._decompressor
        if decompressor.eof:
            raise DamagedFile("it is cut short")
        compressed = self._source.read(_READ_BYTES) if decompressor.needs_input else b""
        if decompressor.needs_input and not compressed:
            raise DamagedFile("it is cut short")
        try:
            # Bounded, because a few bytes may expand to very many.
            found = decompressor.decompress(compressed, max(wanted, _READ_BYTES))
        except ZstdError:
            raise DamagedFile("it can't be decompressed") from None
        if decompressor.eof and decompressor.unused_data:
            raise DamagedFile("it goes on behind its end")
        return found


def _header(kind: bytes, content: bytes) -> Header:
    if kind != _HEADER:
        raise DamagedFile("it has no header")
    try:
        header = msgspec.json.decode(content, type=Header)
    except UNREADABLE_JSON:
        raise DamagedFile("its header can't be read") from None
    for what, theirs, ours in (
        ("store layout", header.layout, keys.LAYOUT),
        ("record layout", header.record_layout, LAYOUT_VERSION),
    ):
        if theirs > ours:
            raise NewerFile(f"it has {what} {theirs} and this software reads {ours}")
        if theirs != ours:
            raise DamagedFile(f"it has {what} {theirs}, which this software does not read")
    if not keys.MIN_BUCKET_BITS <= header.bucket_bits <= keys.MAX_BUCKET_BITS:
        raise DamagedFile("its header has numbers that no version writes")
    if header.number < 1 or header.opt_outs < 0 or (header.behind or 0) >= header.number:
        raise DamagedFile("its header has numbers that no version writes")
    return header


def _part(kind: bytes, content: bytes) -> Part:
    if kind == _OPT_OUTS:
        return _opt_outs(content)
    if kind == _BUCKETS:
        return _buckets(content)
    if kind == _CATALOG:
        try:
            return msgspec.json.decode(content, type=CatalogSnapshot)
        except UNREADABLE_JSON:
            raise DamagedFile("its catalog can't be read") from None
    raise DamagedFile("it has a part that no version writes")


def _opt_outs(content: bytes) -> list[PublishedOptOut]:
    try:
        return [
            PublishedOptOut(number, OptOutAction(action), account_id, bucket, field)
            for number, action, account_id, bucket, field in _OPT_OUT.iter_unpack(content)
        ]
    except (struct.error, ValueError):
        raise DamagedFile("its opt-outs can't be read") from None


def _buckets(content: bytes) -> list[Bucket]:
    found, at, size = [], 0, len(content)
    while at < size:
        if size - at < _BUCKET.size:
            raise DamagedFile("its buckets can't be read")
        number, length = _BUCKET.unpack_from(content, at)
        at += _BUCKET.size
        if size - at < length:
            raise DamagedFile("its buckets can't be read")
        found.append(Bucket(number, content[at : at + length]))
        at += length
    return found
