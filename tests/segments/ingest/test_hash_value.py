"""One value to its digest, or to the shape that a partner is told of."""

from base64 import b64encode, urlsafe_b64encode
from hashlib import md5, sha1, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.ingest.hash_value import bare, base64_digest, hex_digest, shape_of
from segments.model.job import BadLineReason

SHA2 = sha256(b"person@example.com")
MD5 = md5(b"person@example.com", usedforsecurity=False)
SHA1 = sha1(b"person@example.com", usedforsecurity=False)
HEX = SHA2.hexdigest()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"{HEX},", id="comma"),
        pytest.param(f"{HEX};", id="semicolon"),
        pytest.param(f"'{HEX}'", id="single quotes"),
        pytest.param(f"'{HEX}',", id="a line of SQL"),
        pytest.param(f'"{HEX}";', id="quotes and a semicolon"),
        pytest.param(f"0x{HEX}", id="0x"),
        pytest.param(f"0X{HEX.upper()}", id="0X"),
        pytest.param(f"\\x{HEX}", id="bytea of PostgreSQL"),
        pytest.param(f"\\\\x{HEX}", id="bytea of COPY"),
        pytest.param(f"sha256:{HEX}", id="sha256:"),
        pytest.param(f"SHA-256: {HEX}", id="SHA-256:"),
    ],
)
def test_hash_with_a_mark_too_many_is_read(value: str) -> None:
    assert hex_digest(bare(value.encode())) == SHA2.digest()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"md5:{HEX}", id="an algorithm of another length"),
        pytest.param(f"{HEX},,", id="two commas"),
        pytest.param(f"{HEX},1", id="two values"),
        pytest.param(f"{HEX[:-1]}g", id="no hex digit"),
        pytest.param("0x" + HEX[:-2], id="0x for two of its digits"),
        pytest.param(HEX + HEX, id="two hashes"),
    ],
)
def test_what_is_more_than_a_mark_is_no_hash(value: str) -> None:
    assert hex_digest(bare(value.encode())) is None


@pytest.mark.parametrize("digest", [MD5.digest(), SHA1.digest(), SHA2.digest()])
@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
def test_base64_is_read_with_and_without_padding(digest: bytes, encode) -> None:  # type: ignore[no-untyped-def] # two functions
    assert base64_digest(encode(digest)) == digest
    assert base64_digest(encode(digest).rstrip(b"=")) == digest


@given(st.binary(max_size=40))
def test_base64_of_no_digest_is_none(content: bytes) -> None:
    expected = content if len(content) in (16, 20, 32) else None

    assert base64_digest(b64encode(content)) == expected


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        pytest.param(b"person@example.com", BadLineReason.EMAIL_ADDRESS, id="address"),
        pytest.param(b"+44 20 7946 0018", BadLineReason.PHONE_NUMBER, id="phone number"),
        pytest.param(b"38400000-8cf0-11bd-b23e-10b96e40000d", BadLineReason.UUID, id="device id"),
        pytest.param(b64encode(SHA2.digest()), BadLineReason.BASE64, id="base64"),
        pytest.param(b"ab" * 24, BadLineReason.HEX_OF_OTHER_LENGTH, id="SHA-384's half"),
        pytest.param(b"a,b", BadLineReason.SEVERAL_VALUES, id="two values"),
        pytest.param(b"", BadLineReason.EMPTY, id="nothing"),
        pytest.param(b"\xff\xfe", BadLineReason.NOT_A_HASH, id="no text"),
    ],
)
def test_value_that_is_no_hash_is_told_by_its_shape(value: bytes, shape: BadLineReason) -> None:
    assert shape_of(value) is shape


@pytest.mark.parametrize("reason", list(BadLineReason))
def test_every_shape_has_words_for_the_partner(reason: BadLineReason) -> None:
    assert reason.in_words
