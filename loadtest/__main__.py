"""
`python -m loadtest`: traffic against a running service, and what it costs.

    seed         put a known population into the store
    locust       send requests and check every answer
    bench        CPU, requests/s and latency beside the floor and four peers
    scale        CPU and latency as work grows, in tables and PNG files
    load-bench   rows per second of a delivered file beside `redis-cli --pipe`
    optouts      how fast opt-outs are recorded and applied
    demo         the whole service with one audience to try it on
"""

import asyncio
import os
import sys
from pathlib import Path

import click
from redis.exceptions import RedisError

from segments.ledger.engine import LedgerUnusable
from segments.settings import Settings, read_settings
from segments.store.reader import StoreUnusable

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")


@click.group()
def main() -> None:
    """Traffic against a running service, and what it costs."""


@main.command()
@click.option("--ids", type=click.IntRange(min=100), default=100_000, show_default=True)
@click.option("--segments-per-id", type=click.IntRange(1, 50), default=5, show_default=True)
def seed(ids: int, segments_per_id: int) -> None:
    """
    Put a known population into the store.

    The store and the ledger are those of the SEGMENTS_ variables, as for
    rtb-segments; the embedded store is started if it does not run.
    """
    from loadtest.population import Population  # noqa: PLC0415 - `locust` must not wait for numpy
    from loadtest.seed import SeedFailed, seed  # noqa: PLC0415

    settings = read_settings(Settings)
    try:
        done = asyncio.run(seed(Population(ids, segments_per_id), settings, click.echo))
    except (SeedFailed, StoreUnusable, LedgerUnusable, RedisError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"{ids:,} ids in {segments_per_id} segments each; {done.rows:,} rows in"
        f" {done.loading_s:.1f} s of loading"
    )


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def locust(arguments: tuple[str, ...]) -> None:
    """
    Send requests and check every answer; takes Locust's own arguments.

    For instance: python -m loadtest locust --headless -u 20 -r 20 -t 30s
    --host http://127.0.0.1:8080 --ids 100000. What is given to `seed` as
    --ids and --segments-per-id must be given here too.
    """
    argv = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), *arguments]
    os.execv(sys.executable, argv)  # noqa: S606 - Locust takes this process's place


@main.command()
@click.option("--ids", type=click.IntRange(min=1_000), default=1_000_000, show_default=True)
@click.option("--requests", type=click.IntRange(min=1_000), default=20_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--seconds", type=click.IntRange(min=1), default=3, show_default=True)
def bench(ids: int, requests: int, rounds: int, seconds: int) -> None:
    """
    Measure CPU, requests/s and latency beside the floor and four peers.

    Starts its own store in a directory of its own, and ends what it started.
    A peer whose tools are missing is said to be skipped, and why.
    """
    from loadtest.bench import Extent, bench  # noqa: PLC0415
    from loadtest.checks import WrongAnswers  # noqa: PLC0415
    from loadtest.driver import Wrong  # noqa: PLC0415
    from loadtest.seed import SeedFailed  # noqa: PLC0415
    from loadtest.servers import NotReady  # noqa: PLC0415

    try:
        report = bench(Extent(ids, requests, rounds, seconds))
    except (WrongAnswers, Wrong, SeedFailed, NotReady, StoreUnusable) as error:
        raise click.ClickException(str(error)) from None
    click.echo(report.markdown())


@main.command()
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--persons", type=click.IntRange(10_000, 10**8), default=10**6, show_default=True)
@click.option("--requests", type=click.IntRange(min=1_000), default=5_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(min=1), default=2, show_default=True)
def scale(output: Path, persons: int, requests: int, rounds: int, seconds: int) -> None:
    """
    Measure CPU and latency as work grows, and say how.

    Draws a PNG file of each sweep into the directory --output. --persons is the
    most that a store holds, in steps of ten: 10 million take a GB of memory.
    """
    from loadtest.checks import WrongAnswers  # noqa: PLC0415
    from loadtest.driver import Wrong  # noqa: PLC0415
    from loadtest.scale import Extent, scale  # noqa: PLC0415
    from loadtest.servers import NotReady  # noqa: PLC0415

    try:
        tables = scale(Extent(persons, requests, rounds, seconds), output)
    except (WrongAnswers, Wrong, NotReady, StoreUnusable) as error:
        raise click.ClickException(str(error)) from None
    click.echo(tables)


@main.command()
@click.option("--rows", type=click.IntRange(min=1_000), default=10_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--every-kind", is_flag=True, help="Also the same again, another segment, a removal.")
def load_bench(rows: int, rounds: int, every_kind: bool) -> None:
    """
    Measure how fast a file is loaded, beside redis-cli --pipe of plain SADDs.

    Starts its own stores in a directory of its own, and ends what it started.
    10 million rows take 2 GB of memory (the pipe's), 4 GB of disk and some
    minutes.
    """
    from loadtest.load_bench import WrongCount, load_bench  # noqa: PLC0415 - as above

    try:
        load_bench(rows=rows, rounds=rounds, every_kind=every_kind)
    except (WrongCount, StoreUnusable, LedgerUnusable) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option("--ids", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--one-by-one", type=click.IntRange(min=1), default=2_000, show_default=True)
@click.option("--ledger-url", help="An empty PostgreSQL database; SQLite if not given.")
def optouts(ids: int, one_by_one: int, ledger_url: str | None) -> None:
    """
    Measure how fast opt-outs are recorded and applied.

    Starts its own store in a directory of its own, and checks that each is in force.
    """
    from loadtest.optouts import NotApplied, measure_and_say  # noqa: PLC0415

    try:
        measure_and_say(ids, one_by_one, ledger_url, click.echo)
    except (NotApplied, StoreUnusable, LedgerUnusable, RedisError) as error:
        raise click.ClickException(str(error)) from None


@main.command()
def demo() -> None:
    """Run the whole service here with one audience to try it on, until Ctrl-C."""
    from loadtest.demo import demo  # noqa: PLC0415 - as above

    sys.exit(asyncio.run(demo()))


if __name__ == "__main__":
    main()
