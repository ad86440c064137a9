"""The commands of `python -m loadtest` that measure bids as exchanges send them."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

_IDS = click.option("--ids", type=click.IntRange(min=1_000), default=100_000, show_default=True)


@click.command()
@click.argument("names", nargs=-1)
@_IDS
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--seconds", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--calls", type=click.IntRange(min=1_000), default=20_000, show_default=True)
def shapes(names: tuple[str, ...], ids: int, rounds: int, seconds: int, calls: int) -> None:
    """
    Measure the CPU of each shape of a bid beside Go's fasthttp.

    NAMES are shapes to measure, by default all; loadtest/bench/shapes.py lists
    them. The command starts its own store in its own directory, and stops
    everything that it started.
    """
    from loadtest.bench import shape_rows  # noqa: PLC0415 - `run` must not wait for numpy
    from loadtest.bench.shape_report import GRPC  # noqa: PLC0415
    from loadtest.bench.shapes import NAME_TO_SHAPE  # noqa: PLC0415

    known = (*NAME_TO_SHAPE, GRPC)
    if unknown := sorted(set(names) - set(known)):
        raise click.BadParameter(
            f"no such shape: {', '.join(unknown)}; there are {', '.join(known)}", param_hint="NAMES"
        )
    with _told():
        extent = shape_rows.Extent(ids, rounds, seconds, calls)
        click.echo(shape_rows.shapes(extent, names or known).markdown())


@click.command()
@_IDS
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(min=1), default=5, show_default=True)
def low_rates(ids: int, rounds: int, seconds: int) -> None:
    """
    Measure the CPU of a bid at 500, 2,000 and 10,000/s beside Go's fasthttp.

    The command starts its own store in its own directory, and stops everything
    that it started.
    """
    from loadtest.bench import low_rates  # noqa: PLC0415 - as above

    with _told():
        click.echo(low_rates.low_rates(low_rates.Extent(ids, rounds, seconds)))


@click.command()
@_IDS
@click.option("--rows", type=click.IntRange(min=0), default=10_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seconds", type=click.IntRange(min=2), default=4, show_default=True)
def tails(ids: int, rows: int, rounds: int, seconds: int) -> None:
    """
    Measure latency at rest, beside a load and through a stall of the store.

    The command starts its own store in its own directory, and stops everything
    that it started. --rows 0 leaves the load out.
    """
    from loadtest.bench import tails  # noqa: PLC0415 - as above
    from loadtest.bench.tails_report import Extent  # noqa: PLC0415

    with _told():
        click.echo(tails.tails(Extent(ids, rows, rounds, seconds)))


@click.command()
@click.option("--rows", type=click.IntRange(min=1_000), default=3_000_000, show_default=True)
def external(rows: int) -> None:
    """
    Measure how fast runs of an external audience load addresses: CSV and Parquet.

    The command starts its own store in its own directory, and stops everything
    that it started.
    """
    from loadtest.bench.external_rate import external_bench  # noqa: PLC0415 - as above

    with _told():
        click.echo(external_bench(rows=rows))


COMMANDS = (shapes, low_rates, tails, external)


@contextmanager
def _told() -> Iterator[None]:
    """Say in a line why a measurement failed."""
    from loadtest.bench.checks import WrongAnswers  # noqa: PLC0415 - as above
    from loadtest.bench.loader_at_work import WrongCount  # noqa: PLC0415
    from loadtest.bench.stage import NotPossible  # noqa: PLC0415
    from loadtest.driver import Wrong  # noqa: PLC0415
    from loadtest.open_loop import NotAnswered  # noqa: PLC0415
    from loadtest.seed import SeedFailed  # noqa: PLC0415
    from loadtest.servers import NotReady  # noqa: PLC0415
    from segments.store.reader import StoreUnusable  # noqa: PLC0415

    try:
        yield
    except (
        WrongAnswers, WrongCount, Wrong, NotAnswered, SeedFailed, NotReady, StoreUnusable,
        NotPossible,
    ) as error:  # fmt: skip
        raise click.ClickException(str(error)) from None
