"""The operator's options for the loader."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """The loader's share of the settings; `segments.settings` documents each."""

    expected_ids: int
    """Expected number of persons, for the layout of a new store."""

    rebuilds_when_empty: bool
    """Whether a store that came back empty is rebuilt without an operator."""

    spool_dir: Path
    """The directory of spools."""

    reserve_bytes: int | None
    """The reserve of its disk: see `segments.files.disk`."""

    jobs_at_once: int
    """The number of places: the files carried at once, each of another partner."""

    max_removed_share: float
    """Fraction of an audience's members that a file may remove before it is held; 1: never held."""

    abandoned_after_s: float
    """Time after which an unfinished upload is deleted."""

    scrub_within_s: float
    """Time after an ERASURE within which its ids are scrubbed from kept files."""

    refused_file_s: float
    """How long a file is kept after a refusal for its metadata; 0: it is not kept."""

    flood_factor: float
    """A flood of opt-outs exceeds the usual rate by more than this factor."""

    flood_ids_per_minute: int
    """Minimum rate of a flood of opt-outs."""
