import hashlib

import pytest

from segments.ingest.validate import check_digest, check_records
from segments.model.order import Order
from segments.model.stop_reason import Stopped, StopReason


@pytest.mark.parametrize("algorithm", ["md5", "sha1"])
def test_digest_is_of_all_bytes_in_order(algorithm: str) -> None:
    order = Order((), algorithm, hashlib.new(algorithm, b"abcd").hexdigest())

    assert check_digest(order, [b"ab", b"", b"cd"])
    assert not check_digest(order, [b"cd", b"ab"])
    assert not check_digest(order, [])


def test_digest_that_was_not_given_is_not_missed() -> None:
    assert check_digest(Order(()), [b"anything"])


@pytest.mark.parametrize(
    ("announced", "rows", "header_rows", "valid", "expected"),
    [
        pytest.param(3, 3, 0, 3, None, id="as announced"),
        pytest.param(3, 3, 0, 1, None, id="bad lines are records too"),
        pytest.param(4, 3, 1, 3, None, id="title counted"),
        pytest.param(3, 3, 1, 3, None, id="title not counted"),
        pytest.param(None, 3, 0, 3, None, id="not announced"),
        pytest.param(4, 3, 0, 3, StopReason.RECORD_COUNT_MISMATCH, id="one missing"),
        pytest.param(2, 3, 0, 3, StopReason.RECORD_COUNT_MISMATCH, id="one too many"),
        pytest.param(3, 3, 0, 0, StopReason.NO_VALID_RECORD, id="none valid"),
        pytest.param(0, 0, 0, 0, StopReason.NO_VALID_RECORD, id="empty"),
    ],
)
def test_records_are_compared_with_what_was_announced(
    announced: int | None, rows: int, header_rows: int, valid: int, expected: StopReason | None
) -> None:
    reason = None
    try:
        check_records(Order((), records=announced), rows, header_rows, valid)
    except Stopped as stopped:
        reason = stopped.reason

    assert reason is expected


@pytest.mark.parametrize(
    ("rows", "header_rows", "said"),
    [
        pytest.param(0, 1, "there is no record in it, but for the header", id="empty shard"),
        pytest.param(0, 0, "there is no record in it", id="empty file"),
        pytest.param(3, 1, "none of 3 records has a usable id", id="no ids"),
    ],
)
def test_file_without_records_is_told_from_one_without_ids(
    rows: int, header_rows: int, said: str
) -> None:
    with pytest.raises(Stopped) as caught:
        check_records(Order(()), rows, header_rows, 0)

    assert caught.value.detail == said


@pytest.mark.parametrize(
    ("replaces", "rows", "valid", "is_refused"),
    [
        pytest.param(False, 0, 0, False, id="nothing new"),
        pytest.param(False, 3, 0, True, id="nothing usable"),
        pytest.param(True, 0, 0, True, id="replaced by nothing"),
        pytest.param(True, 3, 1, False, id="somebody"),
    ],
)
def test_run_may_find_nothing_but_nobody_is_replaced_by_nothing(
    replaces: bool, rows: int, valid: int, is_refused: bool
) -> None:
    order = Order((), run_id="r", replaces=replaces)

    refused = False
    try:
        check_records(order, rows, 0, valid)
    except Stopped as stopped:
        refused = stopped.reason is StopReason.NO_VALID_RECORD

    assert refused is is_refused
