"""
Published files and `LATEST`, as a follower reads them from a place that others may write.

    published    a file's bytes
    parts        a file's content: packed and sealed by the check, so that damage reaches the parts
    latest       what `LATEST` says: signed by the check, and, for every second input, not

None of them raises anything but `UnreadableFile`. What is read can be written again to the same.
"""

import json
from base64 import b64encode
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import PurePosixPath
from struct import Struct

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from segments.model.catalog import AccountEntry, AudienceEntry, CatalogSnapshot, RecipientEntry
from segments.model.record import OptOutAction
from segments.store.published import latest
from segments.store.published.form import (
    Bucket,
    FileReader,
    FileWriter,
    Header,
    Part,
    PublishedOptOut,
    UnreadableFile,
)
from segments.store.published.latest import Keys, Latest, PublishedFile, public_text, read
from segments.store.published.zstd import ZstdDecompressor, compressor
from tests.fuzz.target import Check, Target

_HEAD = b"rtb-segments full 1\n"
_PART = Struct(">cI")

_CATALOG = CatalogSnapshot(
    7,
    (AudienceEntry(1, 2, 2, "s1", is_active=True),),
    (AccountEntry(2, "advertiser", "p2", "Two", is_active=True, related_ids=(1,)),),
    (RecipientEntry(3, "bidder", is_active=True, partner_ids=(2,), tokens=("ab",)),),
)
_OPT_OUTS = [PublishedOptOut(1, OptOutAction.RESTRICT, 0, 3, b"12345678")]
_BUCKETS = [Bucket(3, b"payload"), Bucket(4, b"")]


def _files() -> list[bytes]:
    return [
        _file(Header(ledger="a", number=10, made_at_s=1.5, opt_outs=1, bucket_bits=8)),
        _file(Header(ledger="b", number=11, behind=10, made_at_s=2.0, opt_outs=9, bucket_bits=20)),
    ]


def _file(header: Header) -> bytes:
    sink = BytesIO()
    writer = FileWriter(sink, header)
    writer.opt_outs(_OPT_OUTS)
    writer.buckets(_BUCKETS)
    writer.catalog(_CATALOG)
    writer.end()
    return sink.getvalue()


def _read(raw: bytes) -> tuple[Header, list[Part]]:
    reader = FileReader(BytesIO(raw))
    return reader.header, list(reader.parts())


def _again(header: Header, parts: Sequence[Part]) -> bytes:
    sink = BytesIO()
    writer = FileWriter(sink, header)
    for part in parts:
        if isinstance(part, CatalogSnapshot):
            writer.catalog(part)
        elif part and isinstance(part[0], Bucket):
            writer.buckets(part)  # type: ignore[arg-type] # all are alike
        else:
            writer.opt_outs(part)  # type: ignore[arg-type] # likewise
    writer.end()
    return sink.getvalue()


def _refusal(error: UnreadableFile) -> Hashable:
    assert str(error).isprintable(), "a refusal's words can't be shown"
    return type(error).__name__, "".join(c for c in str(error) if not c.isdigit())[:40]


def _check_file(raw: bytes) -> Hashable:
    try:
        header, parts = _read(raw)
    except UnreadableFile as error:
        return _refusal(error)
    assert _read(_again(header, parts)) == (header, parts), "written again, it is another"
    return "read", header.kind, len(parts)


@contextmanager
def _checking_files() -> Iterator[Check]:
    yield _check_file


@contextmanager
def _checking_parts() -> Iterator[Check]:
    def check(data: bytes) -> Hashable:
        return _check_file(_sealed(data))

    yield check


def _sealed(content: bytes) -> bytes:
    """Return the file of a content, with the end that it should have."""
    digest = sha256(_HEAD + content).digest()
    packer = compressor()
    packed = packer.compress(content + _PART.pack(b"E", len(digest)) + digest) + packer.flush()
    return _HEAD + packed


def _contents() -> list[bytes]:
    return [
        ZstdDecompressor().decompress(raw.partition(b"\n")[2])[: -_PART.size - 32]
        for raw in _files()
    ]


# latest

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
_TRUSTED = Keys.of([public_text(_KEY.public_key())])
_SHA256 = sha256(b"").hexdigest()


def _sayings() -> list[bytes]:
    full = PublishedFile(5, 100, _SHA256)
    increments = (PublishedFile(6, 50, _SHA256, 5), PublishedFile(8, 50, _SHA256, 6))
    return [
        msgspec.json.encode(Latest(ledger="a", number=5, made_at_s=1.0, opt_outs=0, full=full)),
        msgspec.json.encode(
            Latest(
                ledger="a", number=9, made_at_s=1.5, opt_outs=7, full=full, increments=increments
            )
        ),
    ]


@contextmanager
def _checking_latest() -> Iterator[Check]:
    def check(said: bytes) -> Hashable:
        signature = b64encode(_KEY.sign(b"rtb-segments LATEST\n" + said))
        raw = b'{"latest":' + said + b',"signature":"' + signature + b'"}'
        if len(said) % 2:
            # Raw: what anybody could put there.
            try:
                read(said, _TRUSTED)
            except UnreadableFile as error:
                return _refusal(error)
            raise AssertionError("it was believed without a signature")
        try:
            found = read(raw, _TRUSTED)
        except UnreadableFile as error:
            return _refusal(error)
        for file in (found.full, *found.increments):
            assert PurePosixPath(file.name).name == file.name, "a name leads elsewhere"
            assert latest.number_in(file.name) == file.number, "a name has another number"
        way = found.way_from(found.full.number)
        assert way is not None, "nothing leads from the full to the newest state"
        assert read(latest.sign(found, _KEY), _TRUSTED) == found, "written again, it is another"
        return "read", len(way)

    yield check


def _words(sayings: Sequence[bytes]) -> tuple[bytes, ...]:
    names = {f'"{name}":'.encode() for said in sayings for name in json.loads(said)}
    return (*sorted(names), b"null", b"1e999", b"-1", b"9223372036854775807", b"[]", b"{}")


_WATCHED = ("segments/store/published/",)

TARGETS = (
    Target("published", _files, _checking_files, (), (_HEAD, b"2\n"), _WATCHED),
    Target(
        "parts", _contents, _checking_parts, (),
        (*b"H O B C E".split(), bytes(4), b"\xff" * 4, b'"behind":', b'"layout":9'),
        _WATCHED,
    ),
    Target("latest", _sayings, _checking_latest, (), _words(_sayings()), _WATCHED),
)  # fmt: skip
