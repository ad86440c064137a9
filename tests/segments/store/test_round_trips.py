"""What goes wrong in a call is told in our words."""

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from segments.model.record import CorruptRecord, NewerRecord
from segments.store import round_trips
from segments.store.reader import StoreUnusable


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        pytest.param(
            ResponseError("CORRUPTRECORD cut short script: abc, on @user_script:14."),
            CorruptRecord,
            "bucket 1f of the store: a record: cut short",
            id="corrupt record",
        ),
        pytest.param(
            ResponseError("NEWERRECORD layout 2"),
            NewerRecord,
            "bucket 1f of the store: a record: layout 2",
            id="newer record",
        ),
        pytest.param(
            OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
            StoreUnusable,
            "the store refuses to write bucket 1f: OutOfMemoryError",
            id="out of memory",
        ),
        pytest.param(
            ResponseError("NOPERM planted"),
            StoreUnusable,
            "the store refuses to write bucket 1f: NOPERM",
            id="any other refusal",
        ),
    ],
)
def test_refusal_of_the_store_is_told_in_our_words(
    error: Exception, kind: type[Exception], says: str
) -> None:
    reworded = round_trips._reworded(error, 0x1F)

    assert type(reworded) is kind
    assert str(reworded) == says
