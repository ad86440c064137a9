"""The operator's limits on external audiences."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExternalOptions:
    """The door's settings; `segments.settings` documents each."""

    runs_per_day: int
    runs_per_audience: int
    max_bytes: int
    max_replaced_share: float
