"""The operator's limits on external audiences."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExternalOptions:
    """The door's settings; `segments.settings` documents each."""

    runs_per_day: int
    """External runs that a sandbox may begin per day (UTC)."""

    runs_per_audience: int
    """The same per audience."""

    max_bytes: int
    """Maximum total size of an external run's files, as stored by the customer."""

    max_replaced_share: float
    """Fraction of an audience's members that a replacing run may remove before it is held."""
