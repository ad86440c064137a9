from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.doors.live_audience.codes import code_of
from segments.doors.live_audience.metadata import (
    MAX_METADATA_BYTES,
    MAX_SEGMENTS,
    read_metadata,
)
from segments.model.order import Order, SegmentAction, SegmentOrder
from segments.model.stop_reason import Stopped, StopReason
from tests.segments.ingest.deliveries import as_json, metadata_of

# The document's own example ("Request Body"), its typographic slips included.
EXAMPLE = b"""
{
  "partner_id" : "c9eefe7ba1861a601d01a0f3e8f25573",
  "sub_id" : "142da56bcfbc547dc206e0952edb6214",
  "file" : {
    "name" : "435ed7e9f07f740abf511a62c00eef6e.txt>",
  "hash" : "md5",
  "digest" : "435ed7e9f07f740abf511a62c00eef6e", "date" : "2014-12-12",
  "records" : 1000000
  },
  "segments" : [
  {
  "id" : "123",
  "name" : "Recent Purchasers",
  "action" : "add"
  },
  {
  "id" : "456",
  "name" : "Inactive Subscribers",
  "action" : "remove"
  }
 ]
}
"""


def with_field(path: str, value: Any) -> bytes:
    """Describe a file with one field set to something else; `...` leaves it out."""
    metadata = metadata_of(b"", records=1)
    *parents, name = path.split(".")
    at: Any = metadata
    for parent in parents:
        at = at[int(parent) if parent.isdecimal() else parent]
    if value is ...:
        del at[name]
    else:
        at[name] = value
    return as_json(metadata)


def stop_of(raw: bytes) -> Stopped:
    with pytest.raises(Stopped) as caught:
        read_metadata(raw)
    return caught.value


def test_example_of_the_document_says_what_it_says() -> None:
    metadata = read_metadata(EXAMPLE)

    assert metadata.order() == Order(
        segments=(
            SegmentOrder("123", "Recent Purchasers", SegmentAction.ADD),
            SegmentOrder("456", "Inactive Subscribers", SegmentAction.REMOVE),
        ),
        digest_algorithm="md5",
        digest="435ed7e9f07f740abf511a62c00eef6e",
        records=1_000_000,
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("sub_id", None, id="sub_id null"),
        pytest.param("partner_id", 1001, id="partner_id as a number"),
        pytest.param("file.records", "1", id="records as a string"),
        pytest.param("file.hash", "MD5", id="hash in upper case"),
        pytest.param("file.digest", "435ED7E9F07F740ABF511A62C00EEF6E", id="digest in upper case"),
        pytest.param("segments.0.id", 123, id="segment id as a number"),
        pytest.param("segments.0.name", " Zürich ", id="segment name with blanks around it"),
        pytest.param("callback_url", "https://partner.example/done?x=1", id="callback"),
        pytest.param("something_else", {"a": [1]}, id="fields of a later version"),
    ],
)
def test_what_partners_send_slightly_off_is_understood(path: str, value: Any) -> None:
    assert len(read_metadata(with_field(path, value)).order().segments) == 1


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"", StopReason.NOT_WELL_FORMED, id="nothing"),
        pytest.param(b"{", StopReason.NOT_WELL_FORMED, id="JSON cut short"),
        pytest.param(b"[]", StopReason.NOT_WELL_FORMED, id="no object"),
        pytest.param(b"\xff\xfe{}", StopReason.NOT_WELL_FORMED, id="not UTF-8"),
        pytest.param(b"[" * 100_000, StopReason.NOT_WELL_FORMED, id="very deep"),
        pytest.param(
            b" " * (MAX_METADATA_BYTES + 1), StopReason.NOT_WELL_FORMED, id="a data file by mistake"
        ),
        pytest.param(with_field("file", ...), StopReason.NOT_WELL_FORMED, id="no file"),
        pytest.param(with_field("file.name", ...), StopReason.NOT_WELL_FORMED, id="no name"),
        pytest.param(
            with_field("file.name", "a\nb"), StopReason.NOT_WELL_FORMED, id="name of 2 lines"
        ),
        pytest.param(
            with_field("file.name", "a\0b"), StopReason.NOT_WELL_FORMED, id="name with NUL"
        ),
        pytest.param(
            with_field("file.name", "a" * 257), StopReason.NOT_WELL_FORMED, id="long name"
        ),
        pytest.param(
            with_field("file.hash", "sha256"), StopReason.NOT_WELL_FORMED, id="other hash"
        ),
        pytest.param(with_field("file.digest", "xyz"), StopReason.NOT_WELL_FORMED, id="no digest"),
        pytest.param(
            with_field("file.digest", "a" * 40), StopReason.NOT_WELL_FORMED, id="sha1 called md5"
        ),
        pytest.param(with_field("file.date", "12.12.2014"), StopReason.NOT_WELL_FORMED, id="date"),
        pytest.param(
            with_field("file.date", "2014-13-01"), StopReason.NOT_WELL_FORMED, id="month 13"
        ),
        pytest.param(
            with_field("file.date", "20141212"), StopReason.NOT_WELL_FORMED, id="bare date"
        ),
        pytest.param(with_field("file.records", -1), StopReason.NOT_WELL_FORMED, id="-1 records"),
        pytest.param(with_field("file.records", "many"), StopReason.NOT_WELL_FORMED, id="records"),
        pytest.param(with_field("segments", []), StopReason.NOT_WELL_FORMED, id="no segments"),
        pytest.param(
            with_field(
                "segments", [{"id": "1", "name": "n", "action": "add"}] * (MAX_SEGMENTS + 1)
            ),
            StopReason.NOT_WELL_FORMED,
            id="too many segments",
        ),
        pytest.param(
            with_field("segments.0.action", "replace"), StopReason.NOT_WELL_FORMED, id="action"
        ),
        pytest.param(
            with_field("segments.0.name", " "), StopReason.NOT_WELL_FORMED, id="blank name"
        ),
        pytest.param(
            with_field("segments.0.id", ["1"]), StopReason.NOT_WELL_FORMED, id="list as id"
        ),
        pytest.param(with_field("segments.0.id", ...), StopReason.NOT_WELL_FORMED, id="no id"),
        pytest.param(with_field("partner_id", ...), StopReason.UNKNOWN_PARTNER, id="no partner_id"),
        pytest.param(
            with_field("partner_id", ""), StopReason.UNKNOWN_PARTNER, id="empty partner_id"
        ),
        pytest.param(
            with_field("partner_id", {}), StopReason.UNKNOWN_PARTNER, id="object as partner"
        ),
        pytest.param(with_field("sub_id", ""), StopReason.UNKNOWN_SUB_ID, id="empty sub_id"),
        pytest.param(with_field("file.name", "../a.txt"), StopReason.SLASH_IN_NAME, id="path"),
        pytest.param(with_field("file.name", "a\\b.txt"), StopReason.SLASH_IN_NAME, id="backslash"),
        pytest.param(
            with_field("callback_url", "partner.example"), StopReason.CALLBACK_URL, id="no URL"
        ),
        pytest.param(with_field("callback_url", "ftp://a/b"), StopReason.CALLBACK_URL, id="ftp"),
        pytest.param(
            with_field("callback_url", "http://[::1"), StopReason.CALLBACK_URL, id="bad host"
        ),
        pytest.param(with_field("callback_url", 5), StopReason.CALLBACK_URL, id="number as URL"),
    ],
)
def test_fault_of_the_metadata_has_its_code(raw: bytes, expected: StopReason) -> None:
    assert stop_of(raw).reason is expected


def test_malformed_wins_over_every_other_fault() -> None:
    metadata = metadata_of(b"", records=1, partner_id="", callback_url="x")
    metadata["segments"] = "none"

    assert stop_of(as_json(metadata)).reason is StopReason.NOT_WELL_FORMED


def test_fault_names_the_field_and_never_the_value() -> None:
    stopped = stop_of(with_field("file.records", "person1@example.com"))

    assert "file.records" in stopped.detail
    assert "person1" not in stopped.detail


@pytest.mark.parametrize(
    ("segment_id", "expected"),
    [
        pytest.param("123", True, id="integer"),
        pytest.param("-5", True, id="negative"),
        pytest.param("007", True, id="leading zeros"),
        pytest.param("", False, id="empty"),
        pytest.param("12a", False, id="letters"),
        pytest.param("1.5", False, id="fraction"),
        pytest.param("1 2", False, id="blank"),
        pytest.param("٣", False, id="digit of another script"),
        pytest.param("1" * 21, False, id="too long"),
    ],
)
def test_only_an_integer_is_a_segment_id(segment_id: str, expected: bool) -> None:
    """
    Anything else fails that segment's action and not the request.
    """
    (segment,) = read_metadata(with_field("segments.0.id", segment_id)).order().segments

    assert segment.is_valid is expected


_fields = st.sampled_from(["partner_id", "sub_id", "file", "segments", "name", "id", "action"])
_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(_fields, inner),
    max_leaves=20,
)


@given(st.dictionaries(_fields, _json))
def test_no_json_does_more_than_stop(said: dict[str, Any]) -> None:
    assert code_of(stop_of(as_json(said)).reason) in range(1, 6)


@pytest.mark.parametrize(
    ("path", "value", "detail"),
    [
        ("file.date", "2014-W50-5", "file.date: is not a day as yyyy-mm-dd"),
        ("file.date", 20141212, "file.date: is not a text"),
        ("file.records", True, "file.records: is not a whole number"),
        ("file.records", None, "file.records: is not a whole number"),
        ("segments.0.action", "x", "segments[0].action: is neither add nor remove"),
        ("segments", [], "segments: is empty"),
        ("segments.0.name", ..., "segments[0].name: is missing"),
    ],
)
def test_field_that_is_wrong_is_named_with_the_reason(path: str, value: Any, detail: str) -> None:
    assert stop_of(with_field(path, value)).detail == detail


@pytest.mark.parametrize("records", [5, 5.0, "5"])
def test_number_of_records_is_taken_however_it_is_written(records: Any) -> None:
    assert read_metadata(with_field("file.records", records)).file.records == 5
