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
    """Places: files carried at once, each of another partner."""

    max_removed_share: float
    """Fraction of an audience's members that a file removes before it is held; 1: never held."""

    abandoned_after_s: float
    """Time after which an unfinished upload is deleted."""

    scrub_within_s: float
    """To scrub an ERASURE's ids from kept files."""

    refused_file_s: float
    """For which a file refused for its metadata is kept; 0: not kept."""

    flood_factor: float
    """A flood of opt-outs exceeds the usual rate by more than this factor."""

    flood_ids_per_minute: int
    """Minimum rate of a flood of opt-outs."""
