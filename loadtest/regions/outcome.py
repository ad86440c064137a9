from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtest.soak.outcome import CALM_MAX_SHARE
from loadtest.soak.shared import BROKEN, CALM, Count, Shared

_PUBLISHER_S = 1.0
"""The pause of a publisher between two looks at the ledger."""

_ROUND_TRIPS = 3
"""Of a follower: a connection, `LATEST`, and the increment."""

_BUSY_S = 3.0
"""For writing and reading files: both regions share a machine with other work."""


@dataclass(frozen=True)
class Plan:
    """The plan of a simulation."""

    ids: int  # persons in the stores
    different: int  # requests, at most
    waves: int
    calm_s: float  # between two waves
    delay_s: float  # of the link, in each direction
    opt_outs_every_s: float  # SEGMENTS_PUBLISH_OPT_OUTS_S
    poll_s: float  # RTB_FOLLOW_POLL_S
    is_cut: bool  # whether the link is cut once, for a good minute
    seed: int

    @property
    def no_within_s(self) -> float:
        """The time after which an opt-out must be in force in the second region."""
        publishing_s = self.opt_outs_every_s + _PUBLISHER_S
        return publishing_s + self.poll_s + _ROUND_TRIPS * 2 * self.delay_s + _BUSY_S


@dataclass
class Outcome:
    """The outcome of a simulation."""

    plan: Plan
    shared: Sequence[Shared] = ()  # of the first region, and of the second
    took_s: float = 0.0
    waves_over: int = 0
    nos_s: list[float] = field(default_factory=list)
    """From acknowledgement of opt-outs to obedience in the second region."""
    files_s: list[float] = field(default_factory=list)
    """From the end of each file's job until the second region showed the persons."""
    cut_off_s: list[float] = field(default_factory=list)
    """As `nos_s`, of opt-outs acknowledged while the link was cut."""
    closed_after_s: float | None = None
    """From the cut of the link until the second region enriched nothing."""
    notes: list[str] = field(default_factory=list)

    def took(self, took_s: float, *, is_no: bool, is_cut_off: bool) -> None:
        """Note a wave's time to the second region."""
        reached_s = self.files_s if not is_no else self.cut_off_s if is_cut_off else self.nos_s
        reached_s.append(took_s)

    @property
    def holds(self) -> bool:
        """Whether every answer was right, and enough of them without a fault."""
        return (
            not self.notes
            and len(self.shared) == 2
            and bool(self.nos_s)
            and self.plan.is_cut == (self.closed_after_s is not None)
            and all(
                not cells.total(Count.WRONG)
                and cells.total(Count.RIGHT) > 0
                and cells.passed_through(CALM) <= cells.total(Count.ANSWERED) * CALM_MAX_SHARE
                for cells in self.shared
            )
        )


def print_report(outcome: Outcome) -> None:
    """Print both regions side by side, and the verdict."""
    print(f"\n  {'':56}{'first':>14}{'second':>14}")
    rows = {
        "answered": [cells.total(Count.ANSWERED) for cells in outcome.shared],
        "  exactly as due": [cells.total(Count.RIGHT) for cells in outcome.shared],
        "  passed through while the link was cut": [
            cells.passed_through(BROKEN) for cells in outcome.shared
        ],
        "  passed through otherwise": [cells.passed_through(CALM) for cells in outcome.shared],
        "wrong": [cells.total(Count.WRONG) for cells in outcome.shared],
    }
    for text, (first, second) in rows.items():
        print(f"  {text:56}{first:>14,}{second:>14,}")
    print()
    for text, took_s in (("opt-outs", outcome.nos_s), ("files", outcome.files_s)):
        if took_s:
            mean_s = sum(took_s) / len(took_s)
            print(
                f"  {len(took_s)} waves of {text} reached the second region"
                f" after {mean_s:.1f} s, at most {max(took_s):.1f} s"
            )
    if outcome.closed_after_s is not None:
        print(
            f"  cut off, it enriched nothing after {outcome.closed_after_s:.0f} s,"
            f" and obeyed an opt-out {max(outcome.cut_off_s, default=0):.0f} s after its"
            " acknowledgement"
        )
    print(f"  {outcome.plan.delay_s * 1000:.0f} ms in each direction, {outcome.took_s:,.0f} s")
    for note in outcome.notes:
        print(f"  WRONG: {note}")
    print(f"\n  {'holds' if outcome.holds else 'DOES NOT HOLD'}")
