"""Files of typed columns, against `segments.model.identity` as their specification."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.ingest.crm_audience.columns import Columns, DataType, columns_of
from segments.ingest.crm_audience.typed_parser import TypedParser
from segments.ingest.parse import Ids
from segments.model.identity import UnusableId, id_of_email_hash, id_of_ifa, id_of_phone_hash
from segments.model.job import BadLine, BadLineReason

EMAIL, PHONE, AAID = DataType.EMAIL, DataType.PHONE, DataType.AAID
ADDRESS, NUMBER = DataType.POSTALADDRESS, DataType.SECURITYNUMBER

NOTHING = hashlib.sha256(b"").hexdigest()
HASH, OTHER = "a1" * 32, "0B" * 32
DEVICE = "38400000-8cf0-11bd-b23e-10b96e40000d"
NO_DEVICE = "00000000-0000-0000-0000-000000000000"

ID_OF = {EMAIL: id_of_email_hash, PHONE: id_of_phone_hash, AAID: id_of_ifa}


class Kept(list[bytes]):
    """A sink that can be looked at."""

    is_finished = False

    def add(self, ids: Ids) -> None:
        self.extend(bytes(row) for row in ids)

    def finish(self) -> None:
        self.is_finished = True


def parsed(text: bytes, block_bytes: int = 1 << 18) -> tuple[TypedParser, Counter[bytes]]:
    columns = columns_of(text)
    assert columns is not None
    sinks = {kind: Kept() for kind in ID_OF}
    parser = TypedParser(columns, sinks)
    parts = [parser.feed(text[at : at + block_bytes]) for at in range(0, len(text), block_bytes)]
    ids = np.concatenate([*parts, parser.finish()])
    assert all(kept.is_finished for kept in sinks.values())
    by_type = Counter(id_ for kept in sinks.values() for id_ in kept)
    assert by_type == Counter(bytes(row) for row in ids)
    return parser, by_type


def text_of(columns: Sequence[str], *rows: Sequence[str], end: str = "\n") -> bytes:
    return "".join(f"{','.join(row)}{end}" for row in [columns, *rows]).encode()


def test_each_column_becomes_ids_of_its_kind() -> None:
    parser, ids = parsed(text_of(["EMAIL", "PHONE", "AAID"], [HASH, HASH, DEVICE.upper()]))

    assert ids == Counter([id_of_email_hash(HASH), id_of_phone_hash(HASH), id_of_ifa(DEVICE)])
    assert (parser.rows, parser.valid, parser.bad, parser.header_rows) == (1, 3, 0, 1)


def test_what_no_bid_can_hold_is_counted_and_becomes_nothing() -> None:
    rows = [[HASH, OTHER], [HASH, HASH], ["", OTHER]]
    parser, ids = parsed(text_of(["POSTALADDRESS", "SECURITYNUMBER"], *rows))

    assert ids == Counter()
    assert parser.type_to_total == {ADDRESS: 2, NUMBER: 3}
    assert {k: d.count for k, d in parser.type_to_distinct.items()} == {ADDRESS: 1, NUMBER: 2}
    assert (parser.valid, parser.well_formed, parser.bad) == (0, 5, 0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param(EMAIL, "ada@example.com", id="e-mail in clear"),
        pytest.param(EMAIL, "a1" * 16, id="e-mail by MD5"),
        pytest.param(PHONE, "g1" * 32, id="phone of letters beyond f"),
        pytest.param(AAID, NO_DEVICE, id="the device of those who have none"),
        pytest.param(AAID, DEVICE.replace("-", "0"), id="device without dashes"),
        pytest.param(AAID, "3840000-08cf0-11bd-b23e-10b96e40000d", id="device with a dash astray"),
        pytest.param(ADDRESS, "Main Street 1", id="address in clear"),
    ],
)
def test_value_that_is_none_is_counted_and_the_rest_of_its_line_counts(
    kind: DataType, value: str
) -> None:
    other = PHONE if kind is EMAIL else EMAIL
    parser, ids = parsed(text_of([kind, other], [value, OTHER], ["", HASH]))

    assert ids == Counter([ID_OF[other](OTHER), ID_OF[other](HASH)])
    assert parser.type_to_total[kind] == 1
    assert (parser.rows, parser.bad) == (2, 1)
    assert parser.samples == [BadLine(2, BadLineReason.NOT_ITS_TYPE)]


def test_line_of_other_columns_is_bad_as_a_whole() -> None:
    text = text_of(["EMAIL", "PHONE"], [HASH, HASH, HASH], [HASH], ['"' + HASH, HASH])
    parser, ids = parsed(text)

    assert ids == Counter()
    assert parser.samples == [BadLine(number, BadLineReason.OTHER_COLUMNS) for number in (2, 3, 4)]


def test_line_of_blanks_is_no_record() -> None:
    parser, ids = parsed(text_of(["EMAIL", "PHONE"], [HASH, ""], ["  "], [" \t"], ["", ""]))

    assert ids == Counter([id_of_email_hash(HASH)])
    assert (parser.rows, parser.bad) == (2, 0)


def test_line_without_an_end_is_cut_off_and_counted() -> None:
    text = text_of(["EMAIL", "PHONE"], [HASH, HASH]) + b"x" * 300_000 + b"\n"
    parser, ids = parsed(text, block_bytes=50_000)

    assert len(ids) == 2
    assert (parser.rows, parser.bad) == (2, 1)
    assert parser.samples == [BadLine(3, BadLineReason.TOO_LONG)]


def test_columns_of_other_titles_are_passed_over() -> None:
    parser, ids = parsed(b'name,EMAIL\n"Lovelace, Ada",' + HASH.encode() + b"\n")

    assert ids == Counter([id_of_email_hash(HASH)])
    assert parser.bad == 0


_HEX = st.text("0123456789abcdefABCDEF", min_size=64, max_size=64)
_CELLS = {
    kind: st.one_of(st.just(""), _HEX, st.text("a-1 \t", max_size=66)) for kind in DataType
} | {
    AAID: st.one_of(
        st.just(""), st.uuids().map(str), st.just(NO_DEVICE), st.text("a1-", max_size=38)
    )
}


@st.composite
def files(draw: st.DrawFn) -> tuple[Columns, list[list[str]], bytes]:
    columns = draw(
        st.lists(st.sampled_from([*DataType, None]), min_size=1, max_size=7).filter(
            lambda kinds: any(kinds) and kinds != [EMAIL]
        )
    )
    rows = draw(
        st.lists(
            st.tuples(*(st.text("x y", max_size=3) if k is None else _CELLS[k] for k in columns)),
            max_size=12,
        )
    )
    written = io.StringIO()
    quoting: Literal[0, 1] = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    writer = csv.writer(written, quoting=quoting, lineterminator=end)
    writer.writerow(["first name" if kind is None else kind for kind in columns])
    writer.writerows(rows)
    return tuple(columns), [list(row) for row in rows], written.getvalue().encode()


@given(files(), st.sampled_from([1, 7, 64, 1 << 18]))
def test_both_ways_through_agree_with_identity(
    file: tuple[Columns, list[list[str]], bytes], block_bytes: int
) -> None:
    columns, rows, text = file
    expected: Counter[bytes] = Counter()
    total: Counter[DataType] = Counter()
    for row in rows:
        for kind, cell in zip(columns, row, strict=True):
            value = cell.strip()
            if kind is not None and value:
                total[kind] += 1
                if kind in ID_OF and (kind is AAID or len(value) == 64):
                    with suppress(UnusableId):
                        expected[ID_OF[kind](value)] += 1

    # A block must hold the header for it to be known; that is the reading's to see to.
    parser = TypedParser(columns, {})
    parts = [parser.feed(text[at : at + block_bytes]) for at in range(0, len(text), block_bytes)]
    ids = np.concatenate([*parts, parser.finish()])

    assert Counter(bytes(row) for row in ids) == expected
    assert Counter({k: n for k, n in parser.type_to_total.items() if n}) == total


def test_value_that_is_nobodys_is_dropped_and_counted() -> None:
    """
    Empty cells that were hashed, in a column that bids show and in one that they don't.
    """
    parser, ids = parsed(
        text_of(
            ["EMAIL", "PHONE", "POSTALADDRESS"],
            [HASH, NOTHING, HASH],
            ["0" * 64, HASH, "F" * 64],
            [OTHER, HASH, HASH],
        )
    )

    assert ids == Counter(
        [id_of_email_hash(HASH), id_of_email_hash(OTHER), *[id_of_phone_hash(HASH)] * 2]
    )
    assert (parser.rows, parser.valid, parser.bad) == (3, 4, 3)
    assert [bad.reason for bad in parser.samples] == [BadLineReason.NO_PERSON] * 3
