import gzip
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtb.server.http.grpc import (
    UnknownEncoding,
    error_head,
    framed,
    is_grpc,
    left_ms_of,
    timeout_ms,
    unframed,
)
from rtb.server.http.http11 import BadEncoding, TooLarge

MAX_BYTES = 1_000


def compressed(message: bytes) -> bytes:
    return b"\x01" + framed(gzip.compress(message, mtime=0))[1:]


@given(st.binary(max_size=MAX_BYTES), st.sampled_from([b"", b"identity", b"gzip", b"snappy"]))
def test_message_that_is_not_compressed_is_read_whatever_encoding_is_named(
    message: bytes, encoding: bytes
) -> None:
    assert unframed(framed(message), encoding, MAX_BYTES) == message


@given(st.binary(max_size=MAX_BYTES // 2))
def test_message_that_is_compressed_is_unfolded(message: bytes) -> None:
    assert unframed(compressed(message), b"GZIP", MAX_BYTES) == message


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="no message"),
        pytest.param(b"\0\0\0\0", id="half a prefix"),
        pytest.param(b"\0\0\0\0\x02a", id="half a message"),
        pytest.param(framed(b"a") * 2, id="two messages"),
        pytest.param(b"\x02" + framed(b"a")[1:], id="a flag that nobody knows"),
        pytest.param(b"\x01" + framed(b"a")[1:], id="what is no gzip"),
        pytest.param(compressed(b"abc")[:-1], id="half a gzip, by its frame"),
        pytest.param(b"\x01" + framed(gzip.compress(b"abc")[:-1])[1:], id="half a gzip"),
    ],
)
def test_what_is_not_just_one_message_is_refused(body: bytes) -> None:
    with pytest.raises(BadEncoding):
        unframed(body, b"gzip", MAX_BYTES)


def test_compressed_message_needs_an_encoding_that_we_know() -> None:
    with pytest.raises(BadEncoding):
        unframed(compressed(b"a"), b"", MAX_BYTES)
    with pytest.raises(UnknownEncoding):
        unframed(compressed(b"a"), b"deflate", MAX_BYTES)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(framed(bytes(MAX_BYTES + 1)), id="as it came"),
        pytest.param(b"\0\xff\xff\xff\xff", id="as it says, before it came"),
        pytest.param(compressed(bytes(MAX_BYTES + 1)), id="unfolded"),
    ],
)
def test_message_is_bounded_before_and_after_it_is_unfolded(body: bytes) -> None:
    with pytest.raises(TooLarge):
        unframed(body, b"gzip", MAX_BYTES)


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (b"100m", 100), (b"2S", 2_000), (b"1M", 60_000), (b"1H", 3_600_000), (b"5000u", 5),
        (b"99999999n", 99.999999), (b"", None), (b"100", None), (b"m", None), (b"-1m", None),
        (b"123456789m", None), (b"1s", None), (b"1m ", None),
    ],
)  # fmt: skip
def test_timeout_of_a_call_is_read_in_each_unit(value: bytes, milliseconds: float | None) -> None:
    assert timeout_ms(value) == pytest.approx(milliseconds)


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [(b"100m", 98), (b"2500u", 0.5), (b"1m", 0), (b"1n", 0), (b"", inf), (b"soon", inf)],
)
def test_answer_is_back_within_the_time_out_of_its_call(value: bytes, milliseconds: float) -> None:
    assert left_ms_of(value) == pytest.approx(milliseconds)


def test_content_type_of_a_call_is_protobuf_over_grpc() -> None:
    assert is_grpc(b"application/grpc")
    assert is_grpc(b"Application/GRPC+proto; charset=utf-8")
    assert not is_grpc(b"application/grpc+json")
    assert not is_grpc(b"application/grpc-web")
    assert not is_grpc(b"application/json")
    assert not is_grpc(b"")


def test_error_is_all_in_the_head() -> None:
    assert error_head(8, "malformed", "body_too_large").splitlines() == [
        b"HTTP/1.1 200 OK",
        b"X-Enrich-Outcome: malformed",
        b"X-Enrich-Error: body_too_large",
        b"Content-Type: application/grpc",
        b"grpc-status: 8",
        b"grpc-message: body_too_large",
    ]
