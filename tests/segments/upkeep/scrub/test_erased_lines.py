import hashlib
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.ingest.external_audience.delta import HEADER, delta_of
from segments.ingest.lines import MAX_LINE_BYTES
from segments.ingest.parse import Parser
from segments.model.identity import EMAIL_HASH_CHARS, Id, id_of_email_hash
from segments.store import keys
from segments.upkeep.scrub.erased_lines import ErasedIds, LinesThatStay, Rows, kept_blocks
from tests.segments.ingest.deliveries import TYPE_TO_ALGORITHM, email_hashes

TYPES = tuple(TYPE_TO_ALGORITHM)
PEOPLE = {hash_type: email_hashes(8, hash_type) for hash_type in TYPES}
ERASED = {hash_type: hashes[:3] for hash_type, hashes in PEOPLE.items()}
SET = ErasedIds([id_of_email_hash(digest) for hashes in ERASED.values() for digest in hashes])


def kept(content: bytes, block_bytes: int = 1 << 18, erased: ErasedIds = SET) -> tuple[bytes, int]:
    lines = LinesThatStay(erased)
    blocks = [content[at : at + block_bytes] for at in range(0, len(content), block_bytes)]
    return b"".join(kept_blocks(blocks, lines)), lines.dropped


def holds_erased(content: bytes) -> bool:
    text = content.lower()
    return any(digest.encode() in text for hashes in ERASED.values() for digest in hashes)


@pytest.mark.parametrize("hash_type", TYPES)
@pytest.mark.parametrize(
    "form",
    [
        pytest.param("{}\n", id="plain"),
        pytest.param("{}\r\n", id="CRLF"),
        pytest.param('"{}"\n', id="quoted"),
        pytest.param("  {}\t\n", id="padded"),
        pytest.param("x@y.example,{},2026\n", id="another column"),
        pytest.param("sha256:{}\n", id="prefixed"),
        pytest.param("abc{}def\n", id="stuck to other digits"),
    ],
)
@pytest.mark.parametrize("case", [str.lower, str.upper, str.swapcase])
def test_lines_of_the_erased_go_and_all_others_stay_as_they_were(
    hash_type: str, form: str, case: type[str]
) -> None:
    lines = [form.format(case(digest)).encode() for digest in PEOPLE[hash_type]]

    found, dropped = kept(b"".join(lines))

    assert found == b"".join(lines[3:])
    assert dropped == 3


def test_hash_of_another_type_than_the_files_goes_too() -> None:
    """It was a bad line, and is a person's all the same."""
    content = "\n".join([PEOPLE["sha2"][5], ERASED["md5"][0], PEOPLE["sha2"][6]]).encode()

    found, dropped = kept(content)

    assert found == "\n".join(PEOPLE["sha2"][5:7]).encode()
    assert dropped == 1


def test_last_line_without_its_end_goes_or_stays_as_any_other() -> None:
    stays, goes = PEOPLE["md5"][5].encode(), ERASED["md5"][0].encode()

    assert kept(goes + b"\n" + stays) == (stays, 1)
    assert kept(stays + b"\n" + goes) == (stays + b"\n", 1)
    assert kept(goes) == (b"", 1)


@pytest.mark.parametrize("block_bytes", [100, 1 << 18])
def test_line_longer_than_a_record_goes_unread(block_bytes: int) -> None:
    stays = f"{PEOPLE['md5'][5]}\n".encode()
    long = b"x" * MAX_LINE_BYTES + ERASED["md5"][0].encode() + b"\n"

    assert kept(stays + long + stays, block_bytes) == (stays + stays, 1)
    assert kept(stays + long[:-1], block_bytes) == (stays, 1)


def test_what_is_no_hash_of_the_erased_stays() -> None:
    almost = ERASED["md5"][0][:-1]
    content = f"title\n\n{almost}\nnot,a,hash\n{'ab' * 40}\n".encode()

    assert kept(content) == (content, 0)


_LINE = st.one_of(
    st.builds(
        lambda hash_type, n, quote, upper: (
            f"{quote}{PEOPLE[hash_type][n].upper() if upper else PEOPLE[hash_type][n]}{quote}"
        ),
        st.sampled_from(TYPES),
        st.integers(0, 7),
        st.sampled_from(["", '"', " "]),
        st.booleans(),
    ),
    st.text(alphabet='0123456789abcdefg",;x ', max_size=80),
)


@given(
    st.lists(_LINE, max_size=20),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 300),
)
def test_what_is_kept_holds_every_other_id_and_none_of_the_erased(
    lines: Sequence[str], line_end: str, is_ended: bool, block_bytes: int
) -> None:
    content = (line_end.join(lines) + (line_end if is_ended else "")).encode()

    found, dropped = kept(content, block_bytes)

    each = re.findall(rb"[^\n]*\n|[^\n]+$", content)
    assert found == b"".join(line for line in each if not holds_erased(line))
    assert dropped == sum(map(holds_erased, each))
    for hash_type in TYPES:
        before, after = ids_in(content, hash_type), ids_in(found, hash_type)
        gone = {id_of_email_hash(digest) for digest in ERASED[hash_type]}
        assert after == [id_ for id_ in before if id_ not in gone]


def ids_in(content: bytes, hash_type: str) -> list[bytes]:
    parser = Parser(hash_type)
    return [bytes(row) for part in (parser.feed(content), parser.finish()) for row in part]


def test_set_of_ids_knows_its_own_among_millions_alike() -> None:
    chars = EMAIL_HASH_CHARS["sha2"]
    hashes = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(5000)]
    erased = ErasedIds([id_of_email_hash(digest) for digest in hashes[::7]])
    content = "".join(f"{digest}\n" for digest in hashes).encode()

    found, dropped = kept(content, (chars + 1) * 100, erased)

    assert dropped == len(hashes[::7])
    assert found.decode().split() == [h for n, h in enumerate(hashes) if n % 7]


@pytest.mark.parametrize("bucket_bits", [keys.MIN_BUCKET_BITS, 13, 24, 27, keys.MAX_BUCKET_BITS])
@pytest.mark.parametrize("is_marked", [False, True])
def test_row_goes_if_its_place_in_a_store_is_all_that_is_known_of_an_erased_id(
    bucket_bits: int, is_marked: bool
) -> None:
    everybody = [Id(hashlib.sha256(b"%d" % n).digest()[:15] + b"\0") for n in range(2000)]
    places = [
        Id(keys.id_in_bucket(keys.bucket_of(id_, bucket_bits), keys.field_of(id_), bucket_bits))
        for id_ in everybody
    ]
    erased = ErasedIds([everybody[1]], {bucket_bits: places[::7], 9: []})
    header = HEADER if is_marked else b""

    rows = Rows(erased, is_marked=is_marked)
    stayed = b"".join(kept_blocks([header + b"".join(everybody)], rows))

    left = b"".join(id_ for n, id_ in enumerate(everybody) if n % 7 and n != 1)
    assert stayed == header + left
    assert rows.dropped == len(erased) == len(everybody[::7]) + 1


ids = st.binary(min_size=16, max_size=16).map(Id)


@given(st.lists(ids, max_size=40), st.sets(st.integers(0, 39)), st.integers(1, 60), st.booleans())
def test_rows_of_erased_ids_go_wherever_the_blocks_are_cut(
    everybody: list[Id], numbers: set[int], block_bytes: int, leaves: bool
) -> None:
    erased = [id_ for n, id_ in enumerate(everybody) if n in numbers] or [Id(b"nobody is erased")]
    others = [id_ for id_ in everybody if id_ not in erased]
    # The last byte of a marked id is its mark: those that differ in it alone are one.
    names = {id_[:-1] for id_ in erased}
    others_marked = [id_ for id_ in everybody if id_[:-1] not in names]
    for content, expected, is_marked in (
        (b"".join(everybody), b"".join(others), False),
        (
            HEADER + delta_of([everybody], [leaves] * len(everybody)),
            HEADER + delta_of([others_marked], [leaves] * len(others_marked)),
            True,
        ),
    ):
        rows = Rows(ErasedIds(erased), is_marked=is_marked)
        blocks = [content[at : at + block_bytes] for at in range(0, len(content), block_bytes)]

        assert b"".join(kept_blocks(blocks, rows)) == expected
        assert rows.dropped == (len(content) - len(expected)) // 16
