"""What is planned of a soak, and what it came to."""

from dataclasses import dataclass, field

from loadtest.soak.faults import NAME_TO_FAULT
from loadtest.soak.shared import CALM, Count, Shared
from loadtest.soak.table import Change

CALM_MAX_SHARE = 0.01


@dataclass(frozen=True)
class Plan:
    """How a soak is run."""

    requests: int  # at least so many answers
    ids: int  # persons in the store
    different: int  # requests, at most
    drivers: int
    waves: int
    calm_s: float  # between two faults
    seed: int


@dataclass
class Outcome:
    """What became of a soak."""

    plan: Plan
    shared: Shared
    took_s: float = 0.0
    waves_over: int = 0
    opt_outs_waited: int = 0
    fault_to_times: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAME_TO_FAULT, 0))
    counted: float = 0.0  # by the service
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether everything was right, and enough of it was tried."""
        answered = self.shared.total(Count.ANSWERED)
        return (
            not self.notes
            and not self.shared.total(Count.WRONG)
            and answered >= self.plan.requests
            and self.shared.passed_through(CALM) <= answered * CALM_MAX_SHARE
            and self.waves_over >= len(Change)
            and all(self.fault_to_times.values())
        )
