"""The operator's options for the loader."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """The loader's share of `segments.settings`."""

    expected_ids: int
    """Persons, for the layout of a new store."""

    rebuilds_when_empty: bool
    """Rebuild an emptied store without an operator."""

    spool_dir: Path
    """The directory of spools."""

    reserve_bytes: int | None
    """Of its disk: see `segments.files.disk`."""

    jobs_at_once: int
    """Files carried at once, each of another partner."""

    max_removed_share: float
    """Fraction of an audience's members; a file that removes more is held; 1: never."""

    abandoned_after_s: float
    """Time after which an unfinished upload is deleted."""

    scrub_within_s: float
    """To scrub an ERASURE's ids from kept files."""

    refused_file_s: float
    """How long a file refused for its metadata is kept; 0: not."""

    flood_factor: float
    """A flood exceeds the usual rate of opt-outs by more than this factor."""

    flood_ids_per_minute: int
    """A flood's minimum rate."""
