"""What is read of an RTBRequest, against the official runtime's opinion of the same bytes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.artf.messages import artf
from rtb.openrtb.additions import Additions, Offer, additions
from rtb.openrtb.artf import ArtfReader, RtbRequest
from rtb.openrtb.inventory import publisher_ids
from rtb.openrtb.request import Request
from rtb.outcome import MalformedRequest, Reason
from tests.artf.oracle import by_the_runtime, by_us
from tests.artf.strategies import rtb_requests
from tests.artf.wire import BID_ID, BID_REQUEST, DEVICE, EXT, REGS, USER, nested, number, text


def read(raw: bytes) -> RtbRequest:
    return ArtfReader()(raw)


def bid_request(raw: bytes) -> Request:
    found = read(BID_ID + raw).bid_request
    assert found is not None
    return found


def regs(raw: bytes) -> bytes:
    return nested(BID_REQUEST, REGS, of=raw)


def user(raw: bytes) -> bytes:
    return nested(BID_REQUEST, USER, of=raw)


def device(raw: bytes) -> bytes:
    return nested(BID_REQUEST, DEVICE, of=raw)


@given(rtb_requests)
def test_messages_are_read_as_by_the_official_runtime(raw: bytes) -> None:
    assert by_us(read(raw)) == by_the_runtime(raw)


@given(rtb_requests, st.data())
def test_message_in_parts_is_their_sum_whatever_comes_between(
    raw: bytes, data: st.DataObject
) -> None:
    """
    Fields in another order, some twice, unknown ones between; a site makes no app forgotten.
    """
    parts = data.draw(st.permutations(top_fields(raw)))
    again = data.draw(st.lists(st.sampled_from(parts or [b""]), max_size=2))
    unknown = data.draw(
        st.sampled_from([b"", number(77, 2**63), text(1000, b"\xff"), b"\xa1\x06" + bytes(8)])
    )
    mixed = unknown.join([*parts, *again])

    ours, theirs = by_us(read(mixed)), by_the_runtime(mixed)
    if ours["is_one"]:
        assert ours.pop("publishers") >= theirs.pop("publishers")
    assert ours == theirs


def top_fields(raw: bytes) -> list[bytes]:
    """Take a message apart: its fields, and those of its bid request as one each."""
    message = artf.RTBRequest.FromString(raw)
    fields = []
    for descriptor, _ in message.bid_request.ListFields():
        part = artf.RTBRequest()
        of_bid = getattr(message.bid_request, descriptor.name)
        if descriptor.is_repeated:
            getattr(part.bid_request, descriptor.name).extend(of_bid)
        elif descriptor.message_type:
            getattr(part.bid_request, descriptor.name).CopyFrom(of_bid)
        else:
            setattr(part.bid_request, descriptor.name, of_bid)
        fields.append(part.SerializeToString())
    message.ClearField("bid_request")
    return [*fields, message.SerializeToString()]


@given(rtb_requests, st.data())
def test_damaged_message_is_malformed_or_read(raw: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(raw)))
    damaged = raw[:at] + data.draw(st.binary(max_size=3)) + raw[at + data.draw(st.integers(0, 3)) :]
    with suppress(MalformedRequest):
        read(damaged)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x12", id="a tag alone"),
        pytest.param(b"\x80", id="half a tag"),
        pytest.param(b"\x12\x05abc", id="longer than the message"),
        pytest.param(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="a length of 64 bits"),
        pytest.param(b"\x18" + b"\x80" * 10 + b"\x01", id="a varint of eleven bytes"),
        pytest.param(b"\x18" + b"\xff" * 9 + b"\x02", id="a varint of 65 bits"),
        pytest.param(b"\x80\x80\x80\x80\x10\x00", id="a tag of more than 32 bits"),
        pytest.param(b"\x00\x00", id="field 0"),
        pytest.param(b"\x4b\x08\x01\x4c", id="a group"),
        pytest.param(b"\x4c", id="the end of a group"),
        pytest.param(b"\x4e\x00", id="wire type 6"),
        pytest.param(b"\x49" + bytes(7), id="half a fixed64"),
        pytest.param(b"\x4d" + bytes(3), id="half a fixed32"),
        pytest.param(text(7, b"\x80"), id="half a packed integer"),
        pytest.param(nested(4, 6, 99, 2, 2, of=b"\x0a"), id="deep inside"),
        pytest.param(BID_ID + regs(b"\x08"), id="in regs"),
        pytest.param(BID_ID + regs(text(EXT, b"\x08")), id="in regs.ext"),
        pytest.param(BID_ID + nested(4, 5, 99, of=b"\x08"), id="in device.ext"),
        pytest.param(BID_ID + nested(4, 3, 11, of=b"\x0a"), id="in a publisher"),
        pytest.param(text(6, b"\x12"), id="in the originator"),
    ],
)
def test_what_is_no_protobuf_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedRequest) as caught:
        read(raw)

    assert caught.value.reason is Reason.NOT_PROTOBUF


def test_what_we_do_not_read_is_not_looked_into() -> None:
    assert not bid_request(nested(4, 2, of=b"\xff\xff")).is_odd


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(regs(text(1, b"1")), id="coppa"),
        pytest.param(regs(number(2, 1)), id="gpp: the number of gdpr in older files"),
        pytest.param(regs(b"\x1d" + bytes(4)), id="gpp_sid"),
        pytest.param(regs(text(4, b"1")), id="gdpr"),
        pytest.param(regs(number(5, 1)), id="us_privacy"),
        pytest.param(regs(number(EXT, 1)), id="regs.ext"),
        pytest.param(regs(text(EXT, text(1, b""))), id="gdpr in ext"),
        pytest.param(regs(text(EXT, number(2, 1))), id="us_privacy in ext"),
        pytest.param(regs(text(EXT, number(3, 1))), id="gpc"),
        pytest.param(device(text(1, b"1")), id="dnt"),
        pytest.param(device(text(23, b"1")), id="lmt"),
        pytest.param(device(number(EXT, 1)), id="device.ext"),
        pytest.param(device(text(EXT, text(1, b""))), id="atts"),
        pytest.param(user(number(10, 1)), id="consent"),
        pytest.param(user(number(EXT, 1)), id="user.ext"),
        pytest.param(user(text(EXT, number(1, 1))), id="consent in ext"),
        pytest.param(text(4, number(5, 1)), id="device"),
        pytest.param(text(4, number(6, 1)), id="user"),
        pytest.param(text(4, number(14, 1)), id="regs"),
        pytest.param(number(4, 1), id="bid_request"),
    ],
)
def test_signal_of_another_wire_type_is_odd(raw: bytes) -> None:
    assert bid_request(raw).is_odd


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(regs(text(2, b"\xff")), id="gpp"),
        pytest.param(regs(text(5, b"1YN\xff")), id="us_privacy"),
        pytest.param(regs(text(EXT, text(2, b"\xff"))), id="us_privacy in ext"),
        pytest.param(regs(text(EXT, text(3, b"\xed\xa0\x80"))), id="gpc"),
        pytest.param(user(text(10, b"\xc0\x80")), id="consent"),
        pytest.param(user(text(EXT, text(1, b"\xff"))), id="consent in ext"),
    ],
)
def test_signal_that_is_not_utf8_is_odd(raw: bytes) -> None:
    assert bid_request(raw).is_odd


def test_id_that_can_not_be_read_is_none_and_odd_is_nothing_for_it() -> None:
    eid = text(1, b"a.example") + text(2, text(1, b"\xff")) + text(2, text(1, b"u2"))
    request = bid_request(
        user(text(11, eid) + text(11, text(1, b"\xff") + text(2, text(1, b"u3"))))
        + user(text(2, b"\xff") + number(11, 1))
        + device(text(20, b"\xff"))
        + nested(4, 3, 11, 1, of=b"\xff")
    )

    assert request.uids == [("a.example", "u2", None)]
    assert request.copies == ()
    assert not request.is_odd
    assert read(text(2, b"\xff")).id is None


def test_source_may_come_behind_its_uids() -> None:
    eid = text(2, text(1, b"u1")) + text(1, b"b.example") + text(2, text(1, b"u2"))

    assert bid_request(user(text(11, eid + text(1, b"a.example")))).uids == [
        ("a.example", "u1", None),
        ("a.example", "u2", None),
    ]
    assert bid_request(user(text(11, text(2, text(1, b"u1"))))).uids == []


def test_site_does_not_hide_the_publisher_of_an_app() -> None:
    both = nested(4, 3, 11, 1, of=b"p1") + nested(4, 4, 11, 1, of=b"p2")

    assert publisher_ids(bid_request(both)) == {"p1", "p2"}


@pytest.mark.parametrize("value", [1, 2, 2**32, 2**64 - 1])
def test_any_number_but_0_is_a_flag_that_is_set(value: int) -> None:
    """As a bool is read, which the newest files have; 2 to the 32nd is 0 as an int32 has it."""
    request = bid_request(regs(number(1, value)) + device(number(23, value)))

    assert request.regs.coppa == (1,)
    assert request.tracking.lmt == (1,)


@pytest.mark.parametrize(
    ("raw", "wants"),
    [
        (b"", True),
        (number(1, 0), True),
        (number(1, 1), True),
        (number(1, 2), False),
        (number(1, 3), False),
        (number(7, 1), True),
        (number(7, 2), False),
        (number(7, 2) + number(7, 1), True),
        (text(7, b"\x02\x03"), False),
        (text(7, b"\x02\x01"), True),
        (text(7, b""), True),
    ],
)
def test_host_wants_segments_unless_it_says_otherwise(raw: bytes, wants: bool) -> None:
    assert read(BID_ID + raw).wants_segments is wants


def _shop(request: Request) -> Additions | Reason:
    return additions(request, [Offer("shop", None, b"[", b"]", {"101": b"x", "102": b"y"})])


def test_segments_that_the_request_carries_are_left_out() -> None:
    data = text(8, text(1, b"shop") + text(3, text(1, b"102")) + text(3, text(1, b"\xff")))
    theirs = text(8, text(1, b"other") + text(3, text(1, b"101")))

    found = _shop(bid_request(user(theirs + data)))

    assert isinstance(found, Additions)
    assert [list(each.segment_id_to_json) for each in found.each] == [["101"]]
    both = user(data + text(8, text(1, b"shop") + text(3, text(1, b"101"))))
    assert _shop(bid_request(both)) is Reason.ALREADY_THERE


def test_data_that_is_no_protobuf_is_nobodys() -> None:
    found = _shop(bid_request(user(text(8, text(1, b"shop") + b"\x1a"))))

    assert isinstance(found, Additions)
    assert [len(each.segment_id_to_json) for each in found.each] == [2]


def test_bid_request_without_an_id_is_none() -> None:
    assert read(text(4, text(6, text(10, b"x")))).bid_request is None
    assert read(text(2, b"r1")).bid_request is None
    assert read(text(4, text(1, b""))).bid_request is not None
