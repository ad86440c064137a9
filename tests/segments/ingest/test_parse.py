import hashlib
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.ingest.hash_value import base64_digest
from segments.ingest.lines import MAX_LINE_BYTES
from segments.ingest.parse import MAX_SAMPLES, Parser, are_nobody
from segments.model.identity import (
    EMAIL_HASH_CHARS,
    ID_BYTES,
    NO_PERSON,
    UnusableId,
    id_of_email_hash,
)
from segments.model.job import BadLine, BadLineReason
from tests.segments.ingest.deliveries import email_hashes, ids_of, text_of

HASH_TYPES = tuple(EMAIL_HASH_CHARS)
HASHLIB_NAME = {"md5": "md5", "sha1": "sha1", "sha2": "sha256"}


def parsed(parser: Parser, blocks: Sequence[bytes]) -> list[bytes]:
    ids = [parser.feed(block) for block in blocks]
    return [row.tobytes() for row in np.concatenate([*ids, parser.finish()])]


def cut(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


hex_hashes = st.sampled_from(HASH_TYPES).flatmap(
    lambda name: st.text(
        "0123456789abcdefABCDEF",
        min_size=EMAIL_HASH_CHARS[name],
        max_size=EMAIL_HASH_CHARS[name],
    )
)
junk = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=80)


@pytest.mark.parametrize("hash_type", HASH_TYPES)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_hash_becomes_the_id_that_a_bid_looks_up(hash_type: str, line_end: str) -> None:
    hashes = email_hashes(500, hash_type)
    parser = Parser()

    ids = parsed(parser, cut("".join(h + line_end for h in hashes).encode(), 1000))

    assert ids == ids_of(hashes)
    assert (parser.hash_type, parser.rows, parser.bad) == (hash_type, 500, 0)


@given(st.lists(st.one_of(hex_hashes, junk), max_size=40), st.integers(1, 200))
def test_every_line_is_an_id_or_bad_as_identity_says(lines: list[str], block_bytes: int) -> None:
    """
    Against the one place where an identifier becomes a key, line by line.
    """
    values = [line.strip(" \t\r\v\f") for line in lines]
    # Marks around a hash, and base64, are of `test_hash_value` and `test_header`.
    assume_plain = [
        value
        for value in values
        if not set(value) & set("\"'\\:,;|\t\ufeff") and base64_digest(value.encode()) is None
    ]
    expected, hash_chars = [], None
    for value in assume_plain:
        try:
            id_ = id_of_email_hash(value)
        except UnusableId:
            continue
        hash_chars = hash_chars or len(value)
        if len(value) == hash_chars:
            expected.append(id_)
    parser = Parser()

    ids = parsed(parser, cut("\n".join(assume_plain).encode(), block_bytes))

    assert ids == expected
    assert parser.rows + parser.header_rows == sum(1 for value in assume_plain if value)


def counted(parser: Parser) -> dict[str, object]:
    return {name: value for name, value in vars(parser).items() if not name.startswith("_")}


@given(st.binary(max_size=600), st.integers(1, 100))
def test_result_does_not_depend_on_where_blocks_are_cut(text: bytes, block_bytes: int) -> None:
    whole, in_blocks = Parser(), Parser()

    assert parsed(whole, [text]) == parsed(in_blocks, cut(text, block_bytes))

    assert counted(whole) == counted(in_blocks)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "\n", id="as it should be"),
        pytest.param("", "\r\n", id="windows line ends"),
        pytest.param("  ", "\t\n", id="padding"),
        pytest.param('"', '"\n', id="quotes"),
        pytest.param('"', '"\r\n', id="quotes and windows line ends"),
        pytest.param("\n\n", "\n\r\n \n", id="blank lines"),
    ],
)
def test_hash_is_found_in_the_shapes_in_which_it_is_exported(before: str, after: str) -> None:
    hashes = email_hashes(20)
    parser = Parser()

    ids = parsed(parser, ["".join(f"{before}{h}{after}" for h in hashes).encode()])

    assert ids == ids_of(hashes)
    assert (parser.rows, parser.bad) == (20, 0)


def test_upper_case_is_the_same_person() -> None:
    hashes = email_hashes(5)

    assert parsed(Parser(), [text_of(h.upper() for h in hashes)]) == ids_of(hashes)


def test_last_line_may_lack_its_line_end() -> None:
    hashes = email_hashes(3)

    assert parsed(Parser(), [text_of(hashes).rstrip()]) == ids_of(hashes)


def test_title_of_the_column_is_neither_a_record_nor_bad() -> None:
    hashes = email_hashes(3)
    parser = Parser()

    assert parsed(parser, [b"\nemail_sha256\n" + text_of(hashes)]) == ids_of(hashes)
    assert (parser.header_rows, parser.rows, parser.bad) == (1, 3, 0)


def test_line_of_blanks_is_no_row_of_a_table() -> None:
    [digest] = email_hashes(1)
    parser = Parser()

    ids = parsed(parser, [f"id;email_sha2\n1;{digest}\n \t\n\n;\n".encode()])

    assert ids == ids_of([digest])
    assert (parser.rows, parser.bad) == (1, 0)


def test_first_line_as_long_as_a_hash_is_a_bad_one_and_no_title() -> None:
    parser = Parser()

    parsed(parser, [b"z" * 64 + b"\n" + text_of(email_hashes(1))])

    assert (parser.header_rows, parser.rows, parser.bad) == (0, 2, 1)


def test_first_valid_line_decides_the_type_of_the_file() -> None:
    sha1 = email_hashes(2, "sha1")
    parser = Parser()

    ids = parsed(parser, [text_of([sha1[0], *email_hashes(1, "md5"), sha1[1]])])

    assert ids == ids_of(sha1)
    assert parser.samples == [BadLine(2, BadLineReason.OTHER_HASH)]


def test_type_that_the_delivery_names_is_not_for_the_file_to_decide() -> None:
    parser = Parser("sha2")

    assert parsed(parser, [text_of(email_hashes(3, "md5"))]) == []
    assert parser.bad == 3


def test_two_short_hashes_are_not_one_long_one() -> None:
    """
    Their line end stands where a hex digit should be, though every 65th byte
    is one as well.
    """
    sha2 = email_hashes(1)
    md5_twice = "\n".join(email_hashes(2, "md5"))[:64]
    parser = Parser("sha2")

    ids = parsed(parser, [text_of([*sha2, md5_twice])])

    assert ids == ids_of(sha2)
    assert parser.bad == 2


def test_bad_lines_are_sampled_by_number_and_reason_never_by_content() -> None:
    address = "person1@example.com"
    parser = Parser()

    parsed(parser, [text_of([*email_hashes(1), *([address] * 100)])])

    assert parser.bad == 100
    assert parser.samples == [
        BadLine(2 + n, BadLineReason.EMAIL_ADDRESS) for n in range(MAX_SAMPLES)
    ]
    assert address not in repr(vars(parser))


def test_bad_lines_are_counted_and_sampled_by_each_reason() -> None:
    """
    A file of many addresses and one phone number says so, wherever the number stands.
    """
    many = 3 * MAX_SAMPLES
    parser = Parser()

    parsed(parser, [text_of([*email_hashes(1), *(["a@b.example"] * many), "+4915112345678"])])

    assert parser.bad_by_reason == {
        BadLineReason.EMAIL_ADDRESS: many,
        BadLineReason.PHONE_NUMBER: 1,
    }
    assert parser.samples[MAX_SAMPLES:] == [BadLine(2 + many, BadLineReason.PHONE_NUMBER)]


def test_shapes_of_bad_lines_are_looked_at_up_to_a_number() -> None:
    parser = Parser(max_shaped=5)

    parsed(parser, [text_of([*email_hashes(1), *(["a@b.example"] * 7)])])

    assert parser.bad_by_reason == {
        BadLineReason.EMAIL_ADDRESS: 5,
        BadLineReason.NOT_A_HASH: 2,
    }


@pytest.mark.parametrize("block_bytes", [1000, 1 << 20], ids=["in many blocks", "within one"])
def test_line_too_long_is_one_bad_line_and_the_next_is_read(block_bytes: int) -> None:
    hashes = email_hashes(2)
    text = text_of(hashes[:1]) + b"a" * (5 * MAX_LINE_BYTES) + b"\n" + text_of(hashes[1:])
    parser = Parser()

    assert parsed(parser, cut(text, block_bytes)) == ids_of(hashes)
    assert parser.samples == [BadLine(2, BadLineReason.TOO_LONG)]


def test_line_of_a_gigabyte_takes_no_memory() -> None:
    block = b"a" * (256 << 10)
    parser = Parser()

    tracemalloc.start()
    for _ in range(4096):
        parser.feed(block)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    parser.finish()

    assert (parser.rows, parser.bad) == (1, 1)
    assert peak_bytes < 4 * len(block)


def test_regular_rows_come_back_however_many_irregular_ones_stand_between() -> None:
    hashes = email_hashes(3000)
    lines = [line for h in hashes for line in (h, "x")]
    parser = Parser()

    assert parsed(parser, cut(text_of([*hashes, *lines, *hashes]), 4096)) == ids_of(hashes) * 3
    assert parser.bad == 3000


@pytest.mark.parametrize("hash_type", HASH_TYPES)
@pytest.mark.parametrize("is_regular", [True, False], ids=["regular", "line by line"])
def test_hash_of_nobody_is_dropped_and_counted(hash_type: str, is_regular: bool) -> None:
    """
    Empty cells that were hashed, and placeholders: one person, if they were one.
    """
    chars = EMAIL_HASH_CHARS[hash_type]
    of_nothing = hashlib.new(HASHLIB_NAME[hash_type], b"").hexdigest()
    people = email_hashes(3, hash_type)
    lines = [people[0], of_nothing, people[1], "0" * chars, "F" * chars, people[2]]
    parser = Parser(hash_type)

    ids = parsed(parser, [text_of(lines if is_regular else [f" {line}" for line in lines])])

    assert ids == ids_of(people)
    assert (parser.rows, parser.bad, parser.nobody) == (6, 3, 3)
    assert parser.samples == [BadLine(n, BadLineReason.NO_PERSON) for n in (2, 4, 5)]


def test_hash_of_nobody_in_the_first_line_is_no_header() -> None:
    parser = Parser()

    parsed(parser, [text_of(["0" * 64, *email_hashes(2)])])

    assert (parser.rows, parser.bad, parser.header_rows) == (3, 1, 0)


@given(
    st.lists(st.sampled_from([*sorted(NO_PERSON), *(bytes([n]) * 16 for n in (0, 1, 212, 255))]))
)
def test_many_digests_are_nobody_as_one_is(digests: list[bytes]) -> None:
    matrix = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, ID_BYTES)

    assert are_nobody(matrix).tolist() == [digest in NO_PERSON for digest in digests]
