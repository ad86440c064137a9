"""Text as spreadsheets and old systems write it, in blocks of any size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.ingest.text import text_blocks

LINES = st.lists(st.text(st.characters(codec="ascii", exclude_characters="\r\n\0")), min_size=2)


def blocks_of(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@given(
    lines=LINES,
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    size=st.integers(1, 999),
)
def test_lines_are_those_that_were_written(
    lines: list[str], line_end: str, encoding: str, size: int
) -> None:
    written = line_end.join(lines).encode(encoding)

    read = b"".join(text_blocks(iter(blocks_of(written, size)))).decode()

    assert [line.removesuffix("\r") for line in read.split("\n")] == lines


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_told_without_its_mark(encoding: str) -> None:
    assert b"".join(text_blocks(iter(["hem\na1\n".encode(encoding)]))) == b"hem\na1\n"


def test_pair_that_is_no_utf_16_leaves_a_line_that_is_bad_and_not_lost() -> None:
    text = "one\n".encode("utf-16") + b"\x00\xd8" + "\ntwo\n".encode("utf-16-le")

    assert b"".join(text_blocks(iter([text]))).decode() == "one\n\ufffd\ntwo\n"


def test_single_cr_in_a_file_of_other_line_ends_is_part_of_its_line() -> None:
    assert b"".join(text_blocks(iter([b"one\ntwo\rthree\nfour\n"]))) == b"one\ntwo\rthree\nfour\n"


def test_zero_bytes_that_are_no_utf_16_stay() -> None:
    assert b"".join(text_blocks(iter([bytes(99)]))) == bytes(99)
