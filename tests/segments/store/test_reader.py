import pytest

from segments.store.reader import Meta, StoreUnusable, parse_meta


def test_meta_is_read_from_the_reply() -> None:
    assert parse_meta([b"1", b"13", b"42"]) == Meta(bucket_bits=13, opt_outs=42)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        pytest.param([None, None, None], "start the loader", id="a store that is empty"),
        pytest.param([b"1", b"13", None], "start the loader", id="opt-outs unknown"),
        pytest.param([b"2", b"13", b"0"], "layout 2", id="a later layout"),
        pytest.param([b"1", b"many", b"0"], "unreadable", id="not a number"),
        pytest.param([b"1", b"33", b"0"], "bucket_bits=33", id="more bits than an id gives"),
        pytest.param([b"1", b"13", b"-1"], "opt_outs=-1", id="opt-outs below zero"),
    ],
)
def test_store_that_cannot_be_trusted_says_what_to_do(reply: list[bytes | None], says: str) -> None:
    with pytest.raises(StoreUnusable, match=says):
        parse_meta(reply)
