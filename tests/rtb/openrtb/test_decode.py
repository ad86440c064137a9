from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtb.openrtb.decode import Decoder
from rtb.openrtb.members import BOM
from rtb.openrtb.views import ABSENT
from rtb.outcome import MalformedRequest, Reason
from tests.rtb.requests import json_values

_decode = Decoder(["user.ext.hashes.email", "device.ifa", "site.ext.u"])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", Reason.NOT_JSON, id="nothing"),
        pytest.param(b'{"id":"1"', Reason.NOT_JSON, id="cut short"),
        pytest.param(b'{"id":"1"} x', Reason.NOT_JSON, id="something behind it"),
        pytest.param(BOM + BOM + b'{"id":"1"}', Reason.NOT_JSON, id="two byte order marks"),
        pytest.param(BOM + b'[{"id":"1"}]', Reason.NOT_A_BID_REQUEST, id="a mark and an array"),
        pytest.param(b'{"id":"1","tmax":NaN}', Reason.NOT_JSON, id="no number"),
        pytest.param(b'{"id":"1","tmax":-Infinity}', Reason.NOT_JSON, id="infinity"),
        pytest.param(rb'{"id":"1","imp":"\x"}', Reason.NOT_JSON, id="an escape that is none"),
        pytest.param(b'{"id":"1","imp":"\xe9"}', Reason.NOT_UTF8, id="Latin-1"),
        pytest.param('{"id":"1"}'.encode("utf-16"), Reason.NOT_UTF8, id="UTF-16"),
        pytest.param(b"[1]", Reason.NOT_A_BID_REQUEST, id="an array"),
        pytest.param(b'"id"', Reason.NOT_A_BID_REQUEST, id="a string"),
        pytest.param(b'{"imp":[]}', Reason.NOT_A_BID_REQUEST, id="without an id"),
        pytest.param(b'{"id":' * 5_000, Reason.TOO_DEEP, id="deep in what is skipped"),
        pytest.param(
            b'{"id":"1","device":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
            Reason.TOO_DEEP,
            id="deep in what is read",
        ),
    ],
)
def test_what_is_no_bid_request_is_malformed(body: bytes, reason: Reason) -> None:
    with pytest.raises(MalformedRequest) as caught:
        _decode(body)

    assert caught.value.reason is reason


def test_malformed_request_does_not_carry_its_body_along() -> None:
    """Whoever logs an exception logs its context too, and the codec's quotes the body."""
    with pytest.raises(MalformedRequest) as caught:
        _decode(b'{"id":"1","user":"planted\xff"}')

    assert caught.value.__context__ is None
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"id":""}', id="an empty id"),
        pytest.param(b' {"id":1,"imp":1e999} \n', id="odd numbers in what is skipped"),
        pytest.param(b'{"id":"1","user":{"ext":{}},"imp":[{"id":"","banner":{}}]}', id="OpenX"),
        pytest.param('{"id":"1","x":"é💥"}'.encode(), id="UTF-8"),
        pytest.param(rb'{"id":"\ud800"}', id="half a surrogate pair"),
        pytest.param(rb'{"id":"1","app":{"name":"Puzzle \ud83d"}}', id="half an emoji"),
        pytest.param(rb'{"id":"1","\udc00":{"\ud83d":[]}}', id="half an emoji in names"),
        pytest.param(b'\xef\xbb\xbf {"id":"1"}', id="a byte order mark"),
        pytest.param(b'{"id":"1","tmax":1e999}', id="a number that no double holds"),
        pytest.param(b'{"id":"1","tmax":' + b"9" * 5_000 + b"}", id="a number of 5,000 digits"),
        pytest.param(b'{"id":"1","device":{"lmt":-1e400},"regs":{"coppa":1e400}}', id="several"),
        pytest.param(b'{"id":"1","user":{"eids":[{"uids":[{"id":1e400}]}]}}', id="as an id"),
        pytest.param(b'{"id":null,"user":7,"device":[],"regs":"x","tmax":{}}', id="odd types"),
    ],
)
def test_garbage_in_fields_is_no_error(body: bytes) -> None:
    assert _decode(body).body is body


@pytest.mark.parametrize(
    ("body", "coppa"),
    [
        pytest.param(rb'{"id":"1","regs":{"coppa":1},"x":"\ud83d"}', (1,), id="a surrogate"),
        pytest.param(b'\xef\xbb\xbf{"id":"1","regs":{"coppa":1}}', (1,), id="a mark"),
        pytest.param(b'{"id":"1","regs":{"coppa":1e400}}', (inf,), id="a number beyond all"),
    ],
)
def test_signals_of_what_msgspec_can_not_read_are_read(body: bytes, coppa: tuple[float]) -> None:
    assert _decode(body).regs.coppa == coppa


@pytest.mark.parametrize(
    ("body", "user", "data"),
    [
        pytest.param(rb'{"id":"\ud83d","user":{"data":[1]}}', b'{"data":[1]}', b"[1]", id="both"),
        pytest.param(
            rb'{"user":{"data":[7]},"id":"\ud83d", "user" : {"a":1,"data": [2] } }',
            b'{"a":1,"data": [2] }',
            b"[2]",
            id="the later",
        ),
        pytest.param(rb'{"id":"\ud83d","user":{}}', b"{}", b"", id="no data"),
        pytest.param(
            rb'{"id":"\ud83d","user":{"data":null}}', b'{"data":null}', b"null", id="null"
        ),
        pytest.param(rb'{"id":"\ud83d","user":[]}', b"[]", b"", id="no user"),
        pytest.param(rb'{"id":"\ud83d"}', b"", b"", id="nothing"),
    ],
)
def test_places_of_what_msgspec_can_not_read_are_found(
    body: bytes, user: bytes, data: bytes
) -> None:
    request = _decode(body)

    assert (request.user_raw, request.user_data) == (user, data)
    assert request.id_raw == rb'"\ud83d"'


@given(st.binary() | json_values)
def test_any_bytes_are_a_request_or_malformed(body: bytes) -> None:
    try:
        request = _decode(body)
    except MalformedRequest:
        return

    assert request.id_raw


def test_of_two_members_of_one_name_both_are_read_and_the_later_is_written_to() -> None:
    request = _decode(
        b'{"id":"1","regs":{"coppa":1},"regs":{"coppa":0},"user":{"data":[1]},"user":{"data":[2]}}'
    )

    assert request.regs.coppa == (1, 0)
    assert request.user_raw == b'{"data":[2]}'
    assert request.user_data == b"[2]"


def test_absent_and_null_are_told_apart_where_it_matters() -> None:
    assert _decode(b'{"id":"1"}').user_raw == b""
    assert _decode(b'{"id":"1","user":null}').user_raw == b"null"


@pytest.mark.parametrize(
    ("path", "expected", "rest"),
    [
        pytest.param("user.ext.hashes.email", b'{"email":1}', ("email",), id="in user.ext"),
        pytest.param("device.ifa", b'"i"', (), id="in device"),
        pytest.param("site.ext.u", b'{"ext":{"u":2}}', ("ext", "u"), id="at the top"),
    ],
)
def test_configured_member_is_read_raw(path: str, expected: bytes, rest: tuple[str, ...]) -> None:
    request = _decode(
        b'{"id":"1","user":{"ext":{"hashes":{"email":1}}},"device":{"ifa":"i"},'
        b'"site":{"ext":{"u":2}}}'
    )

    read, remaining = _decode.reader(path)

    assert (bytes(read(request)), remaining) == (expected, rest)
    assert read(_decode(b'{"id":"1","user":5,"device":[]}')) is ABSENT
