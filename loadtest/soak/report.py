from typing import TYPE_CHECKING

from loadtest.soak.shared import Count

if TYPE_CHECKING:
    from loadtest.soak.outcome import Outcome

_ROWS = (
    (Count.ANSWERED, "answered"),
    (Count.RIGHT, "  exactly as due"),
    (Count.OUT_OF_TIME, "  passed through while something was broken: out of time"),
    (Count.STORE_DOWN, "  ... store down"),
    (Count.SHED, "  ... shed"),
    (Count.CALM_OUT_OF_TIME, "  passed through while nothing was broken: out of time"),
    (Count.CALM_STORE_DOWN, "  ... store down"),
    (Count.CALM_SHED, "  ... shed"),
    (Count.WRONG, "wrong"),
    (Count.LOST, "lost with a worker that was killed"),
    (Count.ENDED_POLITELY, "connections that ended with an answer which said so"),
    (Count.IN_FULL, "answers judged in full, the others byte for byte against these"),
)


def print_report(outcome: "Outcome") -> None:
    """Print the table and the verdict."""
    total = outcome.shared.total
    print()
    for count, text in _ROWS:
        print(f"  {text:64}{total(count):>14,}")
    print(f"  {'requests that the service counted':64}{outcome.counted:>14,.0f}")
    print()
    for name, times in outcome.fault_to_times.items():
        print(f"  {name:64}{times:>14,}")
    print(f"  {'waves of opt-outs and files that passed':64}{outcome.waves_over:>14,}")
    print(f"  {'opt-outs that the ledger had before the store':64}{outcome.opt_outs_waited:>14,}")
    print(f"  {'opt-outs and files that came again, refused before':64}{outcome.refused:>14,}")
    rate = total(Count.ANSWERED) / outcome.took_s if outcome.took_s else 0.0
    print(f"\n  {outcome.took_s:,.0f} s, {rate:,.0f} answers/s")
    if total(Count.ANSWERED) < outcome.plan.requests:
        print(f"  ended before the {outcome.plan.requests:,} answers that were asked for")
    for note in outcome.notes:
        print(f"  WRONG: {note}")
    print(f"\n  {'holds' if outcome.holds else 'DOES NOT HOLD'}")
