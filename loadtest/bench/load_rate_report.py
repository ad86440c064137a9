import statistics
from collections.abc import Sequence
from typing import NamedTuple

OF_PIPE = 1.0
PEAK_MB = 300

_MB = 1e6


class Measured(NamedTuple):
    """A deed of a side."""

    rows_per_s: float
    server_us: float  # CPU of the store, per row
    client_us: float  # CPU of the loader, or of redis-cli, per row
    bytes_per_id: float  # memory of the store


class Side(NamedTuple):
    """All deeds of a side."""

    deeds: list[Measured]
    peak_bytes: int = 0  # resident, of the loader


def table(
    rows: int,
    deeds: Sequence[str],
    ours: Sequence[Side],
    pipe: Sequence[Side],
    clustered: Sequence[Side] = (),
) -> str:
    """
    Return the table of each side's medians, and the targets.

    Args:
        rows: Of the file.
        deeds: Their names, in the order of each side's `deeds`.
        ours: The loader's rounds, at least one.
        pipe: Those of `redis-cli --pipe`; empty if it is not installed.
        clustered: The loader's, into a Cluster; empty if not requested.
    """
    lines = [
        f"\nLoading {rows:,} rows: SHA-256, .gz, one segment; the embedded store, with its"
        f" append-only file.\nMedian of {len(ours)} with each from an empty store; CPU in µs per"
        " row, of the store and of the client.\n\n"
        f"  {'':22}{'':18}{'rows/s':>10}{'of pipe':>9}{'store':>7}{'client':>8}{'bytes/id':>10}"
    ]
    for number, deed in enumerate(deeds):
        of_pipe = _median([side.deeds[number] for side in pipe]) if pipe else None
        named = [("rtb-segments loader", ours), ("redis-cli --pipe", pipe)]
        for name, sides in (*named, *([("into a Cluster", clustered)] if clustered else [])):
            if not sides:
                lines.append(f"  {deed:22}{name:20}skipped: redis-cli is not installed")
                continue
            one = _median([side.deeds[number] for side in sides])
            ratio = f"{one.rows_per_s / of_pipe.rows_per_s:9.2f}" if of_pipe else f"{'-':>9}"
            lines.append(
                f"  {deed:22}{name:20}{one.rows_per_s:8,.0f}{ratio}{one.server_us:7.2f}"
                f"{one.client_us:8.2f}{one.bytes_per_id:10.1f}"
            )
    lines.append(f"\n  {'':44}{'measured':>8}{'to reach':>10}")
    if pipe:
        share = _rate(ours) / _rate(pipe)
        lines.append(
            _verdict("rows/s into an empty store, of the pipe", share, OF_PIPE, share >= OF_PIPE)
        )
    if clustered:
        share = _rate(clustered) / _rate(ours)
        lines.append(f"  {'rows/s into a Cluster, of one server':44}{share:8.2f}")
    peak_mb = max(side.peak_bytes for side in ours) / _MB
    lines.append(_verdict("peak memory of the loader, MB", peak_mb, PEAK_MB, peak_mb <= PEAK_MB))
    return "\n".join(lines)


def _verdict(name: str, measured: float, target: float, is_reached: bool) -> str:
    verdict = "reached" if is_reached else "missed"
    return f"  {name:44}{measured:8.2f}{target:10.2f}  {verdict}"


def _rate(sides: Sequence[Side]) -> float:
    return _median([side.deeds[0] for side in sides]).rows_per_s


def _median(of: Sequence[Measured]) -> Measured:
    return Measured(*map(statistics.median, zip(*of, strict=True)))
