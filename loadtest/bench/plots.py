"""Curves as PNG files; the only module that imports matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from loadtest.bench.growth import Curve, Sweep

_PANEL_INCHES = (5.0, 3.6)
_DPI = 110


def plot_sweep(sweep: Sweep, directory: Path, title: str) -> Path:
    """Draw CPU beside latency; return the file."""
    cpu, *latencies = sweep.curves()
    return plot(
        [("CPU µs a request", [cpu]), ("latency, ms", latencies)],
        sweep.name,
        directory / sweep.file_name,
        title,
    )


def plot(
    panels: Sequence[tuple[str, Sequence[Curve]]], x_name: str, path: Path, title: str
) -> Path:
    """
    Draw panels (y axis, curves) side by side over the same logarithmic x; return `path`.

    Dotted lines mark the bends.
    """
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * len(panels), height), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, (y_name, curves) in zip(axes[0], panels, strict=True):
        _draw(axis, x_name, y_name, curves)
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=_DPI)
    return path


def _draw(axis: Axes, x_name: str, y_name: str, curves: Sequence[Curve]) -> None:
    for curve in curves:
        (line,) = axis.plot(curve.x, curve.y, marker="o", label=curve.name)
        bend = curve.bend()
        if bend is not None:
            axis.axvline(bend, color=line.get_color(), linestyle=":", linewidth=1)
    axis.set_xscale("log")
    axis.set_xticks(curves[0].x)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    axis.set_xlabel(x_name)
    axis.set_ylabel(y_name)
    axis.grid(visible=True, alpha=0.3)
    if len(curves) > 1:
        axis.legend()
