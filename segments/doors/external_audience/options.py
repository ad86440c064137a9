"""The guard rails of external audiences that an operator sets."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExternalOptions:
    """This door's share of the settings; `segments.settings` says what each is for."""

    runs_per_day: int
    """How many ingestions a sandbox may begin in a day (UTC)."""

    runs_per_audience: int
    """How many of them of one audience."""

    max_bytes: int
    """How large the files of one ingestion may be together, as they lie there."""

    max_replaced_share: float
    """Fraction of an audience's members that a replacing run may remove before it is held."""
