"""
Payloads of new buckets whose fields all get the same record, as of a loaded file.

By numpy: a file has ids by the million.
"""

from collections.abc import Sequence

import numpy as np

from segments.store.keys import FIELD_BYTES
from segments.store.restore_payload import FIELD_HEAD, framed, record_entry


def payloads(buckets: Sequence[bytes], record: bytes) -> list[bytes]:
    """
    Return a payload for each bucket.

    Args:
        buckets: The distinct fields of each, 8 bytes each, without separators.
        record: As packed, `restore_payload.MAX_RECORD_BYTES` at most.
    """
    fields, entry = b"".join(buckets), record_entry(record)
    rows = np.empty(
        len(fields) // FIELD_BYTES,
        [("head", "V1"), ("field", f"V{FIELD_BYTES}"), ("entry", f"V{len(entry)}")],
    )
    rows["head"] = np.void(FIELD_HEAD)
    rows["field"] = np.frombuffer(fields, f"V{FIELD_BYTES}")
    rows["entry"] = np.void(entry)
    entries = memoryview(rows.tobytes())
    found, at = [], 0
    for each in buckets:
        count = len(each) // FIELD_BYTES
        end = at + count * rows.itemsize
        found.append(framed(entries[at:end], 2 * count))
        at = end
    return found
