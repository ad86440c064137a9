"""What an operator sets of the loader."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """One loader's share of the settings; `segments.settings` says what each is for."""

    expected_ids: int
    """How many persons a new store is laid out for."""

    spool_dir: Path
    """Where a file's ids lie while it is loaded."""

    max_removed_share: float
    """Fraction of an audience's members that a file may remove before it is held; 1 holds none."""

    abandoned_after_s: float
    """After how long an upload that was never finished is deleted."""

    scrub_within_s: float
    """Within how long of an ERASURE its ids are gone from the files that are kept."""

    refused_file_s: float
    """For how long a file is kept that was refused for its metadata; 0 keeps none."""

    flood_factor: float
    """How many times the usual rate of opt-outs is a flood."""

    flood_ids_per_minute: int
    """The least rate of opt-outs that is a flood."""
