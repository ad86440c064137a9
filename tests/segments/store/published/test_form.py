"""A published file comes back as it was written, or is refused by name."""

from hashlib import sha256
from io import BytesIO

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segments.model.catalog import AccountEntry, AudienceEntry, CatalogSnapshot, RecipientEntry
from segments.model.record import LAYOUT_VERSION, OptOutAction
from segments.store import keys
from segments.store.published.form import (
    Bucket,
    DamagedFile,
    FileReader,
    FileWriter,
    Header,
    NewerFile,
    Part,
    PublishedOptOut,
)
from segments.store.published.zstd import ZstdDecompressor, compressor

CATALOG = CatalogSnapshot(
    7,
    (AudienceEntry(1, 2, 2, "s1", is_active=True),),
    (AccountEntry(2, "advertiser", "p2", "Two", is_active=True, related_ids=(1,)),),
    (RecipientEntry(3, "bidder", is_active=True, partner_ids=(2,), tokens=("ab",)),),
)

headers = st.builds(
    Header,
    ledger=st.text(max_size=8),
    number=st.integers(10, 2**62),
    behind=st.none() | st.integers(1, 9),
    made_at_s=st.floats(0, 1e10),
    opt_outs=st.integers(0, 2**62),
    bucket_bits=st.integers(keys.MIN_BUCKET_BITS, keys.MAX_BUCKET_BITS),
)
opt_outs = st.builds(
    PublishedOptOut,
    st.integers(1, 2**62),
    st.sampled_from(OptOutAction),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=8, max_size=8),
)
buckets = st.builds(Bucket, st.integers(0, 2**32 - 1), st.binary(max_size=200))
parts = st.lists(
    st.lists(opt_outs, min_size=1, max_size=3)
    | st.lists(buckets, min_size=1, max_size=3)
    | st.just(CATALOG),
    max_size=4,
)


def whole(header: Header, every_part: list[Part]) -> bytes:
    """Return the bytes of a file of these parts, end and all."""
    sink = BytesIO()
    writer = FileWriter(sink, header)
    for part in every_part:
        if isinstance(part, CatalogSnapshot):
            writer.catalog(part)
        elif isinstance(part[0], Bucket):
            writer.buckets(part)  # type: ignore[arg-type] # all are alike
        else:
            writer.opt_outs(part)  # type: ignore[arg-type] # likewise
    said = writer.end()
    raw = sink.getvalue()
    assert (said.size_bytes, said.sha256) == (len(raw), sha256(raw).hexdigest())
    return raw


HEADER = Header(
    ledger="l", number=5, behind=4, made_at_s=1.5, opt_outs=9, bucket_bits=keys.MIN_BUCKET_BITS
)
SMALL_PARTS: list[Part] = [
    [PublishedOptOut(9, OptOutAction.ERASURE, 0, 3, b"12345678")],
    [Bucket(3, b"payload"), Bucket(4, b"")],
    CATALOG,
]
SMALL = whole(HEADER, SMALL_PARTS)


@given(headers, parts)
def test_what_is_written_is_read(header: Header, every_part: list[Part]) -> None:
    reader = FileReader(BytesIO(whole(header, every_part)))

    assert reader.header == header
    assert list(reader.parts()) == every_part


def test_large_buckets_are_read() -> None:
    many = [[Bucket(n, bytes([n % 256]) * 3000) for n in range(2000)] for _ in range(3)]

    assert list(FileReader(BytesIO(whole(HEADER, list(many)))).parts()) == many


@given(st.integers(0, len(SMALL) - 1))
def test_file_that_is_cut_short_is_refused(at: int) -> None:
    with pytest.raises(DamagedFile):
        list(FileReader(BytesIO(SMALL[:at])).parts())


@given(st.integers(0, len(SMALL) - 1), st.integers(1, 255))
@example(30, 1)  # zstd's window size: the content is read all the same
def test_file_with_a_changed_byte_is_refused_or_says_the_same(at: int, by: int) -> None:
    changed = SMALL[:at] + bytes([SMALL[at] ^ by]) + SMALL[at + 1 :]
    try:
        reader = FileReader(BytesIO(changed))
        reread = (reader.header, list(reader.parts()))
    except (DamagedFile, NewerFile):
        return
    assert reread == (HEADER, SMALL_PARTS)


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda tail: SMALL[:24] + tail))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises((DamagedFile, NewerFile)):
        list(FileReader(BytesIO(noise)).parts())


def test_file_that_goes_on_behind_its_end_is_refused() -> None:
    with pytest.raises(DamagedFile, match="behind its end"):
        list(FileReader(BytesIO(SMALL + b"x")).parts())


def test_schema_of_the_future_is_refused_by_name() -> None:
    with pytest.raises(NewerFile, match="schema 2 and this software reads schema 1"):
        FileReader(BytesIO(b"rtb-segments full 2\nwhatever it may be"))


@pytest.mark.parametrize(
    ("field", "named"), [("layout", "store layout 2"), ("record_layout", "record layout 2")]
)
def test_layout_of_the_future_is_refused_by_name(field: str, named: str) -> None:
    assert (keys.LAYOUT, LAYOUT_VERSION) == (1, 1)
    with pytest.raises(NewerFile, match=named):
        FileReader(BytesIO(whole(msgspec.structs.replace(HEADER, **{field: 2}), [])))


@pytest.mark.parametrize(
    "wrong", [{"number": 4}, {"number": 0, "behind": None}, {"opt_outs": -1}, {"bucket_bits": 33}]
)
def test_header_that_no_version_writes_is_refused(wrong: dict[str, int | None]) -> None:
    with pytest.raises(DamagedFile, match="no version writes"):
        FileReader(BytesIO(whole(msgspec.structs.replace(HEADER, **wrong), [])))


def test_bytes_that_stand_for_very_many_are_not_unpacked_at_once() -> None:
    bomb = BytesIO()
    writer = FileWriter(bomb, HEADER)
    writer._part(b"B", bytes(64 << 20))
    writer.end()
    reader = FileReader(BytesIO(bomb.getvalue()))

    assert len(bomb.getvalue()) < 1 << 16
    assert len(reader._ready) <= 4 << 20


def test_part_without_bound_is_neither_written_nor_read() -> None:
    with pytest.raises(ValueError, match="at most"):
        FileWriter(BytesIO(), HEADER).buckets([Bucket(1, bytes((64 << 20) + 1))])


@pytest.mark.parametrize("where", ["header", "catalog"])
def test_text_that_is_no_utf8_is_damage(where: str) -> None:
    header = Header(ledger="LEDGER", number=10, made_at_s=1.0, opt_outs=1, bucket_bits=8)
    wrong = {"header": b"LEDGER", "catalog": b"advertiser"}[where]
    sink = BytesIO()
    writer = FileWriter(sink, header)
    writer.catalog(CATALOG)
    writer.end()
    content = ZstdDecompressor().decompress(sink.getvalue().partition(b"\n")[2])
    packer = compressor()
    changed = packer.compress(content.replace(wrong, b"\xff" * len(wrong))) + packer.flush()

    with pytest.raises(DamagedFile, match=f"its {where} can't be read"):
        list(FileReader(BytesIO(b"rtb-segments full 1\n" + changed)).parts())
