"""The table of docs/capacity.md is made by its arithmetic from figures of docs/benchmarks.md."""

import math
import re

from docs.make.__main__ import ROOT
from segments.model.record import Membership, Record, pack
from segments.store import keys
from tests.docs.pages import rows_of, text_of

_CAPACITY = ROOT / "docs" / "capacity.md"
_MEASURED = " ".join(text_of(ROOT / "docs" / "benchmarks.md").split())

_PERSONS = (10**7, 10**9, 10**10)
_BIDS_PER_S = (20_000, 500_000, 5_000_000)
_SHARE, _HEADROOM, _SERVER_GB = 0.5, 2, 32
_HEAD_BYTES, _LOOKUP_BYTES, _ID_BYTES, _SEGMENTS = 300, 80, 16, 5


def _measured(pattern: str) -> float:
    """A figure of docs/benchmarks.md, found by the words around it."""
    [found] = re.findall(pattern, _MEASURED)
    return float(found.replace(",", ""))


_BID_US = _measured(r"\| rtb-segments \| ([\d.]+) \([^|]*\) \| 1.00 \|")
_BID_BYTES = _measured(r"([\d,]+) bytes a request, one id with 5 segments")
_LOOKUP_US = _measured(r"CPU a request instead of 2\.3 to ([\d.]+),")
_RECORD_BYTES = _measured(r"([\d.]+) bytes per id in the embedded store at 1,000,000 ids")
_ROWS_PER_S = _measured(r"Reached: ([\d,]+) against")
_OF_A_CLUSTER = _measured(r"on the same two cores, takes ([\d.]+) of one server's rows/s")
_OPT_OUTS_PER_S = _measured(r"read back: ([\d,]+) ids/s in requests of 1,000")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{float(f'{value:.2g}'):g}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{_short(seconds)} s"
    return f"{_short(seconds / 60)} min" if seconds < 7200 * 0.8 else f"{_short(seconds / 3600)} h"


def _column(persons: int, bids_per_s: int) -> list[str]:
    records_gb = persons * _RECORD_BYTES / 1e9
    memory_gb = records_gb * _HEADROOM
    for_memory = math.ceil(memory_gb / _SERVER_GB)
    for_lookups = math.ceil(bids_per_s * _LOOKUP_US / 1e6 / _SHARE)
    masters = max(for_memory, for_lookups)
    rows_per_s = _ROWS_PER_S * (_OF_A_CLUSTER if masters > 1 else 1)
    return [
        f"{bids_per_s:,}",
        f"{math.ceil(bids_per_s * _BID_US / 1e6 / _SHARE):,}",
        _short(records_gb),
        _short(memory_gb),
        str(for_memory),
        str(for_lookups),
        str(masters),
        str(masters * 2),
        f"2^{keys.bucket_bits_for(persons)}",
        _short(bids_per_s * (_BID_BYTES + _HEAD_BYTES) * 8 / 1e9),
        _short(bids_per_s * _LOOKUP_BYTES * 8 / 1e9),
        _time(persons / rows_per_s),
        _short(persons * _SEGMENTS * _ID_BYTES / 1e9),
        _time(persons * 0.01 / _OPT_OUTS_PER_S),
    ]


def test_table_is_what_its_arithmetic_makes_of_the_benchmarks() -> None:
    said = [row[2:] for row in rows_of(_CAPACITY, "need")]

    columns = map(_column, _PERSONS, _BIDS_PER_S)
    assert said == [list(row) for row in zip(*columns, strict=True)]


def test_figures_and_steps_are_those_of_the_benchmarks() -> None:
    values = [row[1] for row in rows_of(_CAPACITY, "figure")]
    steps = " ".join(row[1] for row in rows_of(_CAPACITY, "need"))

    assert values == [
        f"{_BID_US} µs",
        f"{_LOOKUP_US} µs",
        f"{_RECORD_BYTES} bytes",
        f"{_ROWS_PER_S:,.0f}/s",
        f"{_OPT_OUTS_PER_S:,.0f}/s",
    ]
    assert f"x {_BID_US} µs / {_SHARE}" in steps
    assert f"x {_LOOKUP_US} µs / {_SHARE}" in steps
    assert f"persons x {_RECORD_BYTES} bytes" in steps
    assert f"x {_BID_BYTES + _HEAD_BYTES:,.0f} bytes x 8" in steps
    assert f"{_ROWS_PER_S:,.0f}/s; above one master / {_OF_A_CLUSTER}" in steps


def test_lookup_has_the_bytes_that_the_page_assumes() -> None:
    bucket = (1 << keys.bucket_bits_for(_PERSONS[-1])) - 1
    words = (b"HGET", keys.bucket_key(bucket), bytes(8))
    asked = b"*3\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    record = pack(Record((), tuple(Membership(1000 + n, 4000) for n in range(_SEGMENTS))))
    answered = b"$%d\r\n%b\r\n" % (len(record), record)

    assert abs(len(asked) + len(answered) - _LOOKUP_BYTES) <= 5
