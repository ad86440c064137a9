"""The operator's options for the loader."""

from dataclasses import dataclass
from pathlib import Path

from segments.upkeep.opt_out_flood import FloodLimits


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """The loader's settings; `segments.settings` documents each."""

    expected_ids: int
    rebuilds_when_empty: bool
    spool_dir: Path

    reserve_bytes: int | None
    """Of the spools' disk: see `segments.files.disk`."""

    jobs_at_once: int
    max_removed_share: float
    abandoned_after_s: float
    scrub_within_s: float
    refused_file_s: float
    flood: FloodLimits
