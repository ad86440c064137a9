"""A Parquet file that takes each way through the reader: text, numbers, times, a dictionary."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

_SEEN_AT = datetime(2026, 11, 30, 12, tzinfo=UTC)

ROWS = [
    ["a@example.com", "1", "2026-11-30 12:00:00.000000", "de"],
    ["b@example.com", "2", "2026-11-30 12:00:00.000000", "de"],
]


def write(path: Path) -> Path:
    """Write the file of `ROWS`."""
    columns = {
        "email": ["a@example.com", "b@example.com"],
        "number": [1, 2],
        "seen_at": pa.array([_SEEN_AT] * 2),
        "country": pa.array(["de", "de"]).dictionary_encode(),
    }
    parquet.write_table(pa.table(columns), path)
    return path
