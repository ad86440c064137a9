"""Which first lines are no record, and which column of a table has the hashes."""

from base64 import b64encode
from hashlib import sha256

import pytest

from segments.ingest.header import column_of_hashes, is_header, is_table_header, known_text
from segments.ingest.parse import Parser
from segments.model.job import BadLine, BadLineReason
from segments.model.stop_reason import Stopped, StopReason
from tests.segments.ingest.deliveries import email_hashes, ids_of, text_of

SHA2, MD5 = email_hashes(3), email_hashes(3, "md5")
DIGEST = sha256(b"x").digest()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"email_sha256", id="name of a column"),
        pytest.param(b"E-Mail (SHA-256)", id="in words"),
        pytest.param(b"HASHED_EMAIL", id="as warehouses write it"),
        pytest.param(b"sha256", id="mostly digits, and a name that we know"),
        pytest.param("Prüfsumme".encode(), id="not ASCII"),
    ],
)
def test_name_of_a_column_is_a_header(line: bytes) -> None:
    assert is_header(line)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"person@example.com", id="an address"),
        pytest.param(b"ab" * 10, id="20 hex digits"),
        pytest.param(SHA2[0].encode(), id="a hash"),
        pytest.param(b"0x" + SHA2[0].encode(), id="a hash with a mark"),
        pytest.param(b64encode(DIGEST), id="base64 of a hash"),
        pytest.param(b"z" * 64, id="as long as a hash"),
        pytest.param(b"column " * 10, id="longer than any name"),
        pytest.param(b"+44 20 7946 0018", id="no letter"),
        pytest.param(b"A1234567", id="mostly digits"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_line_that_may_have_been_meant_as_a_record_is_no_header(line: bytes) -> None:
    assert not is_header(line)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        pytest.param(b"email_sha256", "email_sha256", id="a name that we know"),
        pytest.param(b"id;E-Mail Hash", "id;E-Mail Hash", id="several"),
        pytest.param(b"Ada Lovelace", "", id="a person"),
        pytest.param(b"id,Ada Lovelace", "", id="a person beside a name that we know"),
    ],
)
def test_text_of_a_header_is_shown_only_where_we_know_it(line: bytes, shown: str) -> None:
    assert known_text(line) == shown


@pytest.mark.parametrize(
    ("line", "is_table"),
    [
        pytest.param(b"id,email_sha256", True, id="commas"),
        pytest.param(b"id;email_sha256", True, id="semicolons"),
        pytest.param(b"email_sha256", False, id="one column"),
        pytest.param(b"person@example.com,hem", False, id="an address among them"),
        pytest.param(SHA2[0].encode() + b",", False, id="a record with an empty column"),
    ],
)
def test_first_line_of_names_is_of_a_table(line: bytes, is_table: bool) -> None:
    assert is_table_header(line) is is_table


def test_column_is_found_by_its_name_before_its_values() -> None:
    rows = [[SHA2[0], MD5[0]]]

    assert column_of_hashes(["crm_key", "email_md5"], rows) == 1


def test_column_of_any_name_is_found_if_it_alone_has_hashes() -> None:
    assert column_of_hashes(["id", "key"], [["7", SHA2[0]], ["8", "broken"], ["9", SHA2[1]]]) == 1


@pytest.mark.parametrize("names", [("email_md5", "email_sha256"), ("one", "two")])
def test_two_columns_that_could_be_it_stop_the_file_by_name(names: tuple[str, str]) -> None:
    with pytest.raises(Stopped, match=f'"{names[0]}" and "{names[1]}"') as stopped:
        column_of_hashes(names, [[MD5[0], SHA2[0]]])

    assert stopped.value.reason is StopReason.UNREADABLE_FILE


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("block_bytes", [7, 1 << 20])
def test_table_is_read_by_its_column_of_hashes(delimiter: str, block_bytes: int) -> None:
    rows = [["id", "note", "email_sha256"], *(["7", '"a\nb"', each] for each in SHA2)]
    text = "".join(delimiter.join(row) + "\r\n" for row in rows).encode()
    parser = Parser()

    blocks = [text[at : at + block_bytes] for at in range(0, len(text), block_bytes)]
    ids = [bytes(i) for block in blocks for i in parser.feed(block)]
    ids += [bytes(i) for i in parser.finish()]

    assert ids == ids_of(SHA2)
    assert (parser.rows, parser.bad, parser.header_line) == (3, 0, 1)


def test_bad_rows_of_a_table_are_counted_by_the_line_that_they_begin_in() -> None:
    text = f'id,hem\n1,{SHA2[0]}\n2\n3,\n"4\n",person@example.com\n5,{SHA2[1]}\n'
    parser = Parser()

    ids = [bytes(i) for i in (*parser.feed(text.encode()), *parser.finish())]

    assert ids == ids_of(SHA2[:2])
    assert parser.samples == [
        BadLine(3, BadLineReason.OTHER_COLUMNS),
        BadLine(4, BadLineReason.EMPTY),
        BadLine(5, BadLineReason.EMAIL_ADDRESS),
    ]


def test_file_of_base64_is_read_and_its_exceptions_are_bad() -> None:
    encoded = [b64encode(bytes.fromhex(each)).decode() for each in email_hashes(1200)]
    parser = Parser()

    parsed = parser.feed(text_of(["hem", *encoded, SHA2[0], "x"]))

    assert [bytes(i) for i in (*parsed, *parser.finish())] == ids_of(email_hashes(1200))
    assert parser.hash_type == "sha2"
    assert [bad.reason for bad in parser.samples] == [
        BadLineReason.OTHER_HASH,
        BadLineReason.NOT_A_HASH,
    ]


def test_base64_among_hex_is_bad() -> None:
    encoded = b64encode(bytes.fromhex(SHA2[1])).decode()
    parser = Parser()

    parsed = parser.feed(text_of([encoded, SHA2[0]]))

    assert [bytes(i) for i in (*parsed, *parser.finish())] == ids_of(SHA2[:1])
    assert parser.samples == [BadLine(1, BadLineReason.BASE64)]
