"""What goes wrong in a call is told in our words."""

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from segments.model.record import CorruptRecord, NewerRecord
from segments.store import round_trips
from segments.store.reader import StoreRefuses


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
            OutOfMemoryError("command not allowed, it is used > 'maxmemory'.", status_code="OOM"),
            StoreRefuses,
            "the store refuses to write bucket 1f: OOM; its maxmemory is reached: raise it",
            id="out of memory",
        ),
        pytest.param(
            ResponseError("ERR planted"),
            StoreRefuses,
            "the store refuses to write bucket 1f: ERR",
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
