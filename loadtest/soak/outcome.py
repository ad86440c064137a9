from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.soak.faults import NAME_TO_FAULT
from loadtest.soak.shared import CALM, Count, Shared
from loadtest.soak.shortages import FULL_DISK
from loadtest.soak.table import Change

CALM_MAX_SHARE = 0.01


@dataclass(frozen=True)
class Plan:
    """The plan of a soak."""

    requests: int  # at least this many answers
    ids: int  # persons in the store
    different: int  # requests, at most
    drivers: int
    waves: int
    calm_s: float  # between two faults
    seed: int
    disk: Path | None = None
    """A directory on its own small file system, which may be filled up."""

    @property
    def faults(self) -> Sequence[str]:
        """The faults possible on this machine."""
        return [name for name in NAME_TO_FAULT if self.disk is not None or name != FULL_DISK]


@dataclass
class Outcome:
    """The outcome of a soak."""

    plan: Plan
    shared: Shared
    took_s: float = 0.0
    waves_over: int = 0
    opt_outs_waited: int = 0
    refused: int = 0
    counted: float = 0.0  # by the service
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fault_to_times = dict.fromkeys(self.plan.faults, 0)

    @property
    def holds(self) -> bool:
        """Whether every answer was right, and all faults and enough requests were tried."""
        answered = self.shared.total(Count.ANSWERED)
        return (
            not self.notes
            and not self.shared.total(Count.WRONG)
            and answered >= self.plan.requests
            and self.shared.passed_through(CALM) <= answered * CALM_MAX_SHARE
            and self.waves_over >= len(Change)
            and all(self.fault_to_times.values())
        )
