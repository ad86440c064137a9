"""`python -m loadtest`: traffic against a running service, and its costs; `--help` has the list."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click
from redis.exceptions import RedisError

from loadtest.bench.commands import COMMANDS
from segments.ledger.database.engine import LedgerUnusable
from segments.runtime.settings_reader import read_settings
from segments.settings import Settings
from segments.store.reader import StoreUnusable

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")


@click.group()
def main() -> None:
    """Send traffic to a running service, and measure its costs."""


for command in COMMANDS:
    main.add_command(command)


@main.command()
@click.option("--ids", type=click.IntRange(min=100), default=100_000, show_default=True)
@click.option("--segments-per-id", type=click.IntRange(1, 50), default=5, show_default=True)
def seed(ids: int, segments_per_id: int) -> None:
    """
    Put a known population into the store.

    The SEGMENTS_ variables select the store and the ledger, as for
    rtb-segments; the command starts the embedded store if it does not run.
    """
    from loadtest.population import Population  # noqa: PLC0415 - `run` must not wait for numpy
    from loadtest.seed import SeedFailed, seed  # noqa: PLC0415

    settings = read_settings(Settings)
    try:
        done = asyncio.run(seed(Population(ids, segments_per_id), settings, click.echo))
    except (SeedFailed, StoreUnusable, LedgerUnusable, RedisError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"{ids:,} ids in {segments_per_id} segments each; {done.rows:,} rows in"
        f" {done.loading_s:.1f} s of loading; only e-mail hashes came in files, so seed again after"
        " a rebuild"
    )


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(context: click.Context, arguments: tuple[str, ...]) -> None:
    """
    Send requests and check every answer; takes Locust's own arguments.

    Example: python -m loadtest run --headless -u 20 -r 20 -t 30s
    --host http://127.0.0.1:8080 --ids 100000 --html report.html. Give the same
    --ids and --segments-per-id as to `seed`. With --rate all users together
    send so many a second; with --seed they send other requests. The exit status
    is 1 if any answer was wrong, or none was enriched in time.
    """
    if {"-h", "--help"} & set(arguments):  # Locust's help has its own arguments alone
        click.echo(f"{context.get_help()}\n\nLocust's own:\n")
        sys.stdout.flush()
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

    The command starts its own store in its own directory, and stops everything
    that it started. It skips a peer whose tools are missing, and says why.
    """
    from loadtest.bench.against_peers import Extent, bench  # noqa: PLC0415
    from loadtest.bench.checks import WrongAnswers  # noqa: PLC0415
    from loadtest.driver import Wrong  # noqa: PLC0415
    from loadtest.seed import SeedFailed  # noqa: PLC0415
    from loadtest.servers import NotReady  # noqa: PLC0415

    try:
        report = bench(Extent(ids, requests, rounds, seconds))
    except (WrongAnswers, Wrong, SeedFailed, NotReady, StoreUnusable) as error:
        raise click.ClickException(str(error)) from None
    click.echo(report.markdown())


@main.command()
@click.option("--ids", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--requests", type=click.IntRange(min=1_000), default=20_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
def calls(ids: int, requests: int, rounds: int) -> None:
    """
    Measure the CPU of a bid over gRPC beside JSON and grpcio's own servers.

    The command starts its own store in its own directory, and stops everything
    that it started.
    """
    from loadtest.bench.calls import Extent, calls  # noqa: PLC0415
    from loadtest.bench.checks import WrongAnswers  # noqa: PLC0415
    from loadtest.driver import Wrong  # noqa: PLC0415
    from loadtest.seed import SeedFailed  # noqa: PLC0415
    from loadtest.servers import NotReady  # noqa: PLC0415

    try:
        report = calls(Extent(ids, requests, rounds))
    except (WrongAnswers, Wrong, SeedFailed, NotReady, StoreUnusable) as error:
        raise click.ClickException(str(error)) from None
    click.echo(report)


@main.command()
@click.option("--ids", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--requests", type=click.IntRange(min=1_000), default=20_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True)
def tracing(ids: int, requests: int, rounds: int) -> None:
    """
    Measure the CPU that OpenTelemetry costs a bid, off and on, in JSON and by gRPC.

    The command starts its own store, listeners and collector, and stops
    everything that it started. Needs rtb-segments[otel].
    """
    from loadtest.bench.checks import WrongAnswers  # noqa: PLC0415
    from loadtest.bench.tracing import Extent, tracing  # noqa: PLC0415
    from loadtest.driver import Wrong  # noqa: PLC0415
    from loadtest.seed import SeedFailed  # noqa: PLC0415
    from loadtest.servers import NotReady  # noqa: PLC0415

    try:
        report = tracing(Extent(ids, requests, rounds))
    except (WrongAnswers, Wrong, SeedFailed, NotReady, StoreUnusable) as error:
        raise click.ClickException(str(error)) from None
    click.echo(report)


@main.command()
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--persons", type=click.IntRange(10_000, 10**8), default=10**7, show_default=True)
@click.option("--requests", type=click.IntRange(min=1_000), default=5_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(min=1), default=2, show_default=True)
def scale(output: Path, persons: int, requests: int, rounds: int, seconds: int) -> None:
    """
    Measure CPU and latency as work grows, and say how they grow.

    The command draws a PNG file of each sweep into the directory --output. The
    store grows tenfold in each step, up to --persons: 10 million take a GB of
    memory.
    """
    from loadtest.bench.checks import WrongAnswers  # noqa: PLC0415
    from loadtest.bench.scale import Extent, scale  # noqa: PLC0415
    from loadtest.driver import Wrong  # noqa: PLC0415
    from loadtest.servers import NotReady  # noqa: PLC0415

    try:
        tables = scale(Extent(persons, requests, rounds, seconds), output)
    except (WrongAnswers, Wrong, NotReady, StoreUnusable) as error:
        raise click.ClickException(str(error)) from None
    click.echo(tables)


@main.command()
@click.option("--rows", type=click.IntRange(min=1_000), default=10_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--every-kind", is_flag=True, help="Also load the same file again, another segment, a removal."
)
@click.option(
    "--cluster", "with_cluster", is_flag=True, help="Also load into a Cluster of six nodes."
)
def load_bench(rows: int, rounds: int, every_kind: bool, with_cluster: bool) -> None:
    """
    Measure how fast a file is loaded, beside redis-cli --pipe of plain SADDs.

    The command starts its own stores in its own directory, and stops everything
    that it started. 10 million rows take 2 GB of memory (the pipe's), 4 GB of
    disk and some minutes.
    """
    from loadtest.bench.load_rate import load_bench  # noqa: PLC0415
    from loadtest.bench.loader_at_work import WrongCount  # noqa: PLC0415
    from loadtest.bench.redis_cluster import NotMade  # noqa: PLC0415 - as above

    try:
        load_bench(rows=rows, rounds=rounds, every_kind=every_kind, with_cluster=with_cluster)
    except (WrongCount, NotMade, StoreUnusable, LedgerUnusable) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option("--ids", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--requests", type=click.IntRange(min=1_000), default=20_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
def cache(ids: int, requests: int, rounds: int) -> None:
    """
    Measure the near cache, off and on, with bids that follow Zipf laws.

    The command starts its own store in its own directory, and stops everything
    that it started.
    """
    from loadtest.bench.checks import WrongAnswers  # noqa: PLC0415
    from loadtest.bench.near_cache import cache_bench  # noqa: PLC0415 - as above
    from loadtest.driver import Wrong  # noqa: PLC0415
    from loadtest.seed import SeedFailed  # noqa: PLC0415
    from loadtest.servers import NotReady  # noqa: PLC0415

    try:
        cache_bench(ids=ids, requests=requests, rounds=rounds)
    except (WrongAnswers, Wrong, SeedFailed, NotReady, StoreUnusable) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option("--ids", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--one-by-one", type=click.IntRange(min=1), default=2_000, show_default=True)
@click.option("--ledger-url", help="URL of an empty PostgreSQL database; default: SQLite.")
def optouts(ids: int, one_by_one: int, ledger_url: str | None) -> None:
    """
    Measure how fast opt-outs are recorded and applied.

    The command starts its own store in its own directory, and checks that each
    opt-out is in force.
    """
    from loadtest.bench.opt_outs import NotApplied, measure_and_say  # noqa: PLC0415

    try:
        measure_and_say(ids, one_by_one, ledger_url, click.echo)
    except (NotApplied, StoreUnusable, LedgerUnusable, RedisError) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option("--ids", type=click.IntRange(min=10_000), default=10**7, show_default=True)
@click.option("--segments-per-id", type=click.IntRange(1, 50), default=5, show_default=True)
@click.option(
    "--costs", is_flag=True, help="Measure instead what publishing costs bids and writes."
)
def publishing(ids: int, segments_per_id: int, costs: bool) -> None:
    """
    Measure how fast a store is published and followed, and the length of its files.

    The command starts its own stores in its own directory, and compares every
    bucket. 10 million ids take 2 GB of memory and some minutes, most of them to
    make the persons.
    """
    from loadtest.bench import publishing, publishing_costs  # noqa: PLC0415
    from loadtest.bench.publishing import NotFollowed  # noqa: PLC0415

    measured = publishing_costs if costs else publishing
    try:
        measured.measure_and_say(ids, segments_per_id, click.echo)
    except (NotFollowed, StoreUnusable, LedgerUnusable, RedisError) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option("--url", "--host", help="A seeded service; by default, start one.")
@click.option("--rate", type=click.FloatRange(1, 100_000), default=1_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=30, show_default=True)
@click.option("--mean-ms", type=float, default=2, show_default=True, help="The mean must be below.")
@click.option("--p95-ms", type=float, help="The p95 must be below: default 5, of calls 1.")
@click.option("--budget-ms", type=float, default=5, show_default=True)
@click.option(
    "--over-budget",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Share of requests that may exceed the budget.",
)
@click.option("--ids", type=click.IntRange(min=100), default=100_000, show_default=True)
@click.option("--segments-per-id", type=click.IntRange(1, 50), default=5, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--grpc", "is_grpc", is_flag=True, help="By calls of ARTF's GetMutations.")
def accept(
    url: str | None,
    rate: float,
    seconds: float,
    mean_ms: float,
    p95_ms: float | None,
    budget_ms: float,
    over_budget: float,
    ids: int,
    segments_per_id: int,
    workers: int,
    is_grpc: bool,
) -> None:
    """
    Run the acceptance test that hosts require; the exit status is the verdict.

    The command sends each request when it is due, whether or not earlier ones
    are answered (open loop), and counts latency from the due time. With --url,
    give the same --ids and --segments-per-id as to `seed`; with --grpc too, the
    service needs RTB_ARTF_ID=partner:segment, and RTB_ARTF_RECIPIENT as a map of
    each recipient's name to itself.
    """
    from loadtest.accept import Limits, Plan, accept, accept_own, address_of  # noqa: PLC0415
    from loadtest.open_loop import NotAnswered  # noqa: PLC0415
    from loadtest.population import Population  # noqa: PLC0415
    from loadtest.running import NotSettled  # noqa: PLC0415

    if p95_ms is None:
        p95_ms = 1.0 if is_grpc else 5.0
    plan = Plan(rate, seconds, Limits(mean_ms, p95_ms, budget_ms, over_budget), is_grpc)
    population = Population(ids, segments_per_id)
    try:
        if url is None:
            is_accepted = accept_own(plan, population, workers=workers, say=_say)
        else:
            is_accepted = accept(plan, address_of(url), population, _say)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from None
    except (NotAnswered, NotSettled) as error:
        raise click.ClickException(str(error)) from None
    sys.exit(0 if is_accepted else 1)


@main.command()
@click.option("--ids", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--requests", type=click.IntRange(min=1_000), default=50_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
def workers(ids: int, requests: int, rounds: int) -> None:
    """
    Measure the gain of a second worker on this machine: throughput and CPU, in turns.

    The command starts its own service, and stops everything that it started.
    """
    from loadtest.bench.checks import WrongAnswers  # noqa: PLC0415 - as above
    from loadtest.bench.workers import workers  # noqa: PLC0415
    from loadtest.driver import Wrong  # noqa: PLC0415
    from loadtest.running import NotSettled  # noqa: PLC0415

    try:
        workers(ids=ids, requests=requests, rounds=rounds, say=_say)
    except (WrongAnswers, Wrong, NotSettled) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option("--requests", type=click.IntRange(min=1_000), default=10_000_000, show_default=True)
@click.option("--ids", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--different", type=click.IntRange(min=500), default=6_000, show_default=True)
@click.option("--drivers", type=click.IntRange(1, 16), default=2, show_default=True)
@click.option("--waves", type=click.IntRange(min=3), default=60, show_default=True)
@click.option("--calm-s", type=click.FloatRange(min=0.1), default=5.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--disk",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A directory on its own small file system, which the test fills up now and then.",
)
def soak(**plan: Any) -> None:
    """
    Check that all answers are right, whatever fails meanwhile.

    The command starts its own service with two workers, injects every fault that
    it knows while files and opt-outs come in, and judges every answer. The exit
    status is 0 if all answers were right.
    """
    from loadtest.soak.outcome import Plan  # noqa: PLC0415 - as above
    from loadtest.soak.run import soak  # noqa: PLC0415 - as above

    sys.exit(0 if soak(Plan(**plan)) else 1)


@main.command()
@click.option("--ids", type=click.IntRange(min=1_000), default=20_000, show_default=True)
@click.option("--different", type=click.IntRange(min=500), default=4_000, show_default=True)
@click.option("--waves", type=click.IntRange(min=3), default=24, show_default=True)
@click.option("--calm-s", type=click.FloatRange(min=0.1), default=5.0, show_default=True)
@click.option("--delay-s", type=click.FloatRange(0, 5), default=0.1, show_default=True)
@click.option("--opt-outs-every-s", type=click.FloatRange(1, 60), default=5.0, show_default=True)
@click.option("--poll-s", type=click.FloatRange(0.1, 60), default=2.0, show_default=True)
@click.option("--cut/--no-cut", "is_cut", default=True, help="Cut the link for a minute.")
@click.option("--seed", type=int, default=1, show_default=True)
def regions(**plan: Any) -> None:
    """
    Check two regions with a slow link between them: the delay of opt-outs in the second.

    The command starts both here: one ledger, two stores, and a bucket that the
    second region follows. It judges every answer; the exit status is 0 if all
    answers were right.
    """
    from loadtest.regions.outcome import Plan  # noqa: PLC0415 - as above
    from loadtest.regions.run import regions  # noqa: PLC0415 - as above

    sys.exit(0 if regions(Plan(**plan)) else 1)


@main.command()
def demo() -> None:
    """Run the whole service here with an audience to try it on, until Ctrl-C."""
    from loadtest.demo import demo  # noqa: PLC0415 - as above

    sys.exit(asyncio.run(demo()))


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
