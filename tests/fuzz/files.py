"""
Files of hashes, as partners deliver them: the archive, the text, the lines, what stays of them.

    archive    .gz, .zip, and what is neither: plain blocks, or a named fault
    lines      text to ids: every line that is not blank is an id, a bad line or a header
    typed      files of typed columns, in both of their ways
    erased     what is to stay of a file when persons are erased from it

None of them raises anything but `Stopped`, whose words quote no value of the file.
"""

import gzip
import re
import zlib
from base64 import b64encode
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import obstore
from obstore.store import MemoryStore

from segments.files.blob import Blob
from segments.ingest.crm_audience.columns import columns_of
from segments.ingest.crm_audience.typed_parser import TypedParser
from segments.ingest.hash_value import bare
from segments.ingest.parse import Parser
from segments.ingest.text import text_blocks
from segments.ingest.unpack import is_archive, is_zip, plain_blocks
from segments.model.stop_reason import Stopped
from segments.upkeep.scrub.erased_lines import ErasedIds, LinesThatStay
from tests.fuzz.forms import line_splice, within_gzip, within_zip
from tests.fuzz.pieces import pieces_of
from tests.fuzz.target import Check, Target
from tests.segments.ingest.deliveries import (
    email_hashes,
    gz_of,
    ids_of,
    tar_of,
    text_of,
    zip_of,
)

CANARY = b"somebody.secret@example.com"
"""An address that stands in seeds where a hash should; no message may have it."""

_HASHES = email_hashes(6)
_ERASED = ids_of(_HASHES[:2])


def quotes_nothing(stopped: Stopped) -> tuple[str, str]:
    """Return a stop as an ending, having seen that it does not quote the canary."""
    assert CANARY.decode() not in stopped.detail, "a fault's words quote a value"
    assert stopped.detail.isprintable(), "a fault's words can't be shown"
    # Numbers, and names of columns, would make each ending another.
    words = "".join(char for char in stopped.detail if not char.isdigit())
    return stopped.reason.value, words.partition("columns are")[0][:30]


def _as_text(data: bytes) -> bytes:
    return b"".join(text_blocks(iter([data] if data else [])))


class _Counted:
    """What a parser makes of a text, fed in pieces."""

    def __init__(self, parser: Parser, pieces: Iterable[bytes]) -> None:
        self.ids: list[bytes] = []
        self.stopped: tuple[str, str] | None = None
        try:
            for piece in pieces:
                self._take(parser.feed(piece))
            self._take(parser.finish())
        except Stopped as stopped:
            self.stopped = quotes_nothing(stopped)
        self.parser = parser

    def _take(self, ids: Any) -> None:
        self.ids += [bytes(row) for row in np.ascontiguousarray(ids)]

    @property
    def said(self) -> tuple[Any, ...]:
        parser = self.parser
        if self.stopped is not None:
            return (self.stopped,)
        return (
            parser.hash_type, parser.rows, parser.valid, parser.bad, parser.header_rows,
            parser.header_line, parser.header, parser.samples, self.ids,
        )  # fmt: skip


# lines


@contextmanager
def _checking_lines() -> Iterator[Check]:
    def check(data: bytes) -> Hashable:
        text = _as_text(data)
        hash_type = (None, None, "md5", "sha2")[len(data) % 4]
        whole = _Counted(Parser(hash_type), [text] if text else [])
        cut = _Counted(Parser(hash_type), pieces_of(text))
        assert whole.said == cut.said, "in pieces, the file is another"
        parser = whole.parser
        if whole.stopped is not None:
            return whole.stopped
        assert len(whole.ids) == parser.valid
        if b'"' not in text:
            due = _rows_due(parser, text)
            found = parser.valid + parser.bad + parser.header_rows
            assert found == due, f"{due} lines, of which {found} are told"
        reasons = frozenset(sample.reason.value for sample in parser.samples)
        return (
            parser.hash_type,
            parser.valid > 0,
            parser.header_rows > 0,
            len(reasons),
            min(reasons, default=""),
        )

    yield check


def _rows_due(parser: Parser, text: bytes) -> int:
    """Count the lines that are not blank; of a table, those in which a cell is not blank."""
    lines = text.split(b"\n")
    table = parser._table
    if table is None:
        return sum(1 for line in lines if bare(line))
    before = parser.header_line
    header = sum(1 for line in lines[:before] if bare(line))
    cells = (
        line.decode(errors="replace").removesuffix("\r").split(table._delimiter)
        for line in lines[before:]
    )
    return header + sum(1 for row in cells if any(cell.strip() for cell in row))


def _line_seeds() -> Sequence[bytes]:
    hashes = [digest.encode() for digest in _HASHES]
    md5 = [digest.encode() for digest in email_hashes(4, "md5")]
    in_base64 = [b64encode(bytes.fromhex(digest)) for digest in _HASHES]
    return [
        text_of(_HASHES),
        b"\r\n".join(hashes),
        b"\r".join(hashes) + b"\r",
        b"email_sha256\n" + text_of(_HASHES),
        b"\n".join((*hashes, CANARY, b"", b"NULL", md5[0], b"x" * 1_500)),
        b"\n".join(md5),
        b"\xef\xbb\xbf" + text_of(_HASHES),
        text_of(_HASHES).decode().encode("utf-16"),
        b"sep=;\nid;hash;name\n" + b"".join(b"1;%b;x\n" % digest for digest in hashes),
        b"id,email_md5,name\n" + b"".join(b'1,%b,"a ""b"", c"\n' % digest for digest in md5),
        b'id,"hashed\nemail"\n' + b"".join(b"1,%b\n" % digest for digest in hashes),
        b"".join(b"sha256:%b,\n'%b'\n0x%b;\n" % (d, d, d) for d in hashes[:3]),
        b"\n".join(in_base64),
        b"a,b\n" + b"".join(b"%b,%b\n" % (d, d) for d in hashes[:2]),
        b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n" + hashes[0],
        b"",
    ]


# typed


@contextmanager
def _checking_typed() -> Iterator[Check]:
    def check(data: bytes) -> Hashable:
        text = _as_text(data)
        columns = columns_of(text)
        if columns is None:
            return None
        parser, slow = TypedParser(columns, {}), TypedParser(columns, {})
        slow._length_to_layouts = {}  # line by line
        first, other = _Counted(parser, pieces_of(text)), _Counted(slow, [text])
        # Which way a line goes, and with which others, decides the order of its ids alone.
        assert sorted(first.ids) == sorted(other.ids), "line by line, other ids"
        assert first.said[:-1] == other.said[:-1], "line by line, the file is another"
        assert parser.type_to_total == slow.type_to_total
        if b'"' not in text:
            due = sum(1 for line in text.split(b"\n") if line.strip())
            assert parser.rows + parser.header_rows <= due, "more rows than lines"
        assert len(first.ids) == parser.valid <= parser.well_formed
        return min(len(columns), 4), parser.bad > 0, parser.valid > 0, parser.header_rows > 1

    yield check


def _typed_seeds() -> Sequence[bytes]:
    email, phone = _HASHES[0].encode(), _HASHES[1].encode()
    aaid = b"38400000-8cf0-11bd-b23e-10b96e40000d"
    return [
        b"EMAIL,PHONE,AAID\n%b,%b,%b\n%b,,\n,,%b\n" % (email, phone, aaid, email, aaid),
        b"email;phone\r\n%b;%b\r\n;%b\r\n" % (email, phone, phone),
        b"Postal address,SECURITYNUMBER,EMAIL\n%b,%b,%b\n" % (email, phone, email),
        b'PHONE,notes\n"%b","a, b"\n%b,\n' % (phone, phone),
        b"AAID\n%b\n%b\nnull\n" % (aaid, aaid.upper()),
        b"EMAIL,PHONE\n%b\n%b,x,y\n%b,%b\n" % (email, CANARY, email, b"e3b0c442" * 8),
        b"EMAIL,PHONE\n%b,%b\nEMAIL,PHONE\n" % (email, phone),
    ]


# erased


@contextmanager
def _checking_erased() -> Iterator[Check]:
    # A table of 16 MiB, once for all inputs.
    erased = ErasedIds(_ERASED)
    digits = [id_.hex().encode() for id_ in _ERASED]

    def check(data: bytes) -> Hashable:
        sieve, in_pieces = LinesThatStay(erased), LinesThatStay(erased)
        kept = sieve.feed(data) + sieve.finish()
        others = b"".join(map(in_pieces.feed, pieces_of(data))) + in_pieces.finish()
        assert (kept, sieve.dropped) == (others, in_pieces.dropped), "in pieces, other lines stay"
        # A run as long as a hash is one: in the middle of it, digits are another person's.
        runs = [run[:32] if len(run) in (32, 40, 64) else run for run in _hex_runs(kept)]
        assert not any(each in run for each in digits for run in runs), "an erased hash has stayed"
        lines, left = data.split(b"\n"), kept.split(b"\n")
        remaining = iter(lines)
        assert all(line in remaining for line in left if line), "a line is another"
        if not sieve.dropped:
            assert kept == data, "nothing was erased, and the file is another"
        return sieve.dropped > 0, len(kept) == 0

    yield check


def _hex_runs(text: bytes) -> list[bytes]:
    return re.findall(rb"[0-9a-f]{32,}", text.lower())


# archive


@contextmanager
def _checking_archive() -> Iterator[Check]:
    store = MemoryStore()

    def opened(data: bytes) -> Blob:
        obstore.put(store, "delivered", data)
        return Blob(store, "delivered", len(data))

    def check(data: bytes) -> Hashable:
        kind = (is_archive(opened(data)), is_zip(opened(data)))
        try:
            blocks = list(plain_blocks(opened(data)))
        except Stopped as stopped:
            if kind == (False, False):
                assert data[:4] != b"\x1f\x8b", "an archive that is none"
            return kind, quotes_nothing(stopped)
        plain = b"".join(blocks)
        if not kind[0]:
            assert plain == data, "plain bytes that are others"
        elif not kind[1]:
            assert plain == (_by_zlib(data) or plain), "zlib unpacks it otherwise"
        return kind, len(plain).bit_length() // 8

    yield check


def _by_zlib(data: bytes) -> bytes | None:
    """
    Unpack members of a .gz; zeros behind the last are filling (gzip(1)).

    `None`: a member has a flag that RFC 1952 reserves (2.3.1), which isal passes over and zlib
    refuses; nothing is lost by it.
    """
    plain = []
    while data:
        if data[3] & 0xE0:
            return None
        member = zlib.decompressobj(31)
        plain.append(member.decompress(data))
        assert member.eof, "cut short, and read as whole"
        data = member.unused_data.lstrip(b"\0")
    return b"".join(plain)


def _archive_seeds() -> Sequence[bytes]:
    text = text_of(_HASHES)
    return [
        text,
        gz_of(text),
        gz_of(text[:65]) + gz_of(text[65:]) + bytes(20),
        gz_of(b"\n" * 200_000),
        gz_of(gz_of(text)),
        zip_of({"a.txt": text}),
        zip_of({"a.txt": text}, 0),
        zip_of({"a.txt": text}, 12),
        zip_of({"d/": b"", "d/.DS_Store": b"x", "d/a.txt": text}),
        zip_of({"a.txt": text, "b.txt": text}),
        zip_of({}),
        tar_of({"a.txt": text}),
        tar_of({"a.txt": text}, is_oldest=True),
        gzip.compress(text, 9, mtime=0)[:-4],
        b"PAR1" + text,
        b"%PDF-1.7\n",
    ]


_LINE_TOKENS = (
    b"\n", b"\r\n", b"\r", b",", b";", b"\t", b"|", b'"', b'""', b"'", b"=", b"0x", b"sha256:",
    b"NULL", b"EMAIL", b"PHONE", b"AAID", b"hash", b"sep=,\n", CANARY, b"@", b"\xff\xfe",
    _HASHES[0].encode(), _HASHES[1].encode(), _HASHES[2].upper().encode(),
)  # fmt: skip

TARGETS = (
    Target(
        "lines", _line_seeds, _checking_lines, (line_splice,), _LINE_TOKENS,
        ("segments/ingest/",), max_bytes=2_000, slowest_ms=60.0,
    ),
    Target(
        "typed", _typed_seeds, _checking_typed, (line_splice,), _LINE_TOKENS,
        ("segments/ingest/",), max_bytes=2_000, slowest_ms=60.0,
    ),
    Target(
        "erased", _line_seeds, _checking_erased, (line_splice,), _LINE_TOKENS,
        ("segments/upkeep/scrub/erased_lines.py", "segments/ingest/lines.py"),
        max_bytes=2_000, slowest_ms=60.0,
    ),
    Target(
        "archive", _archive_seeds, _checking_archive, (within_gzip, within_zip),
        (b"PK\x03\x04", b"PK\x05\x06", b"PK\x01\x02", b"\x1f\x8b\x08", b"BZh", bytes(8)),
        ("segments/ingest/unpack.py", "segments/files/"), max_bytes=8_000, slowest_ms=600.0,
    ),
)  # fmt: skip
