import pytest

from segments.store.reader import (
    LedgerBehind,
    Meta,
    StoreUnusable,
    Whose,
    believed_meta,
    parse_meta,
)

NOBODYS: list[bytes | None] = [None] * 9


def test_meta_is_read_from_the_reply() -> None:
    assert parse_meta([b"1", b"13", b"42", *NOBODYS]) == Meta(bucket_bits=13, opt_outs=42)


def test_meta_says_whose_the_store_is_and_what_it_was_told() -> None:
    told = [b"57", b"43", b"0042", b"7", b"f00d"]

    whose = parse_meta([b"1", b"13", b"42", b"c0ffee", *told, None, b"1", None]).whose

    assert whose == Whose("c0ffee", 57, 43, "0042", 7, "f00d", is_of_empty_ledger=True)


def test_store_whose_ledger_is_behind_it_is_not_believed() -> None:
    told = [b"57", b"43", b"", b"7", b""]
    reply = [b"1", b"13", b"42", b"c0ffee", *told, b"5 of 57", None, None, b"run:lineage"]

    with pytest.raises(LedgerBehind, match=r"5 of 57.*reconcile"):
        believed_meta(reply)


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
        parse_meta([*reply, *NOBODYS])
