"""
The operator's port of a control plane process.

    /metrics        for Prometheus
    /health/live    200 while its event loop runs
    /health/ready   200 if it can do its work; else 503 with the reason; with ?strict also
                    503 while work waits for other processes, or a fault exists

Partners must not reach this port. The bid listener has its own, `rtb.server.metrics.admin_port`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from segments.runtime import http_server
from segments.runtime.health import Health
from segments.runtime.ports import CannotListen
from segments.runtime.telemetry import Telemetry, metrics_sent
from segments.runtime.tls import TlsFiles, context_of

Reasons = Callable[[], Awaitable[Sequence[str]]]
"""Returns the reasons why a process can't do its work; empty if it can."""


Backlog = Callable[[], Awaitable[Mapping[str, float]]]
"""Returns backlogs as further members of `/health/ready`; each is 0 while nothing waits."""


async def nothing_waits() -> Mapping[str, float]:
    """Report no backlog."""
    return {}


async def nothing_is_ill() -> Sequence[str]:
    """Report no fault."""
    return ()


def add_health(
    app: web.Application,
    reasons: Reasons,
    backlog: Backlog = nothing_waits,
    ills: Reasons = nothing_is_ill,
) -> None:
    """Add the health routes to an application."""

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def ready(request: web.Request) -> web.Response:
        unready = await reasons()
        # Faults are asked for only of a ready process.
        ill = () if unready else await ills()
        return Health(unready, waiting=await backlog(), ill=ill).answer(request)

    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", ready)


@asynccontextmanager
async def shown(
    setting: str,
    host: str,
    port: int | None,
    registry: CollectorRegistry,
    reasons: Reasons,
    tls: TlsFiles | None = None,
    backlog: Backlog = nothing_waits,
    ills: Reasons = nothing_is_ill,
    telemetry: Telemetry | None = None,
) -> AsyncIterator[int | None]:
    """
    Serve metrics and health while the context lasts, and send the metrics; yields the port.

    Args:
        setting: The port's setting, for messages.
        host: The address to listen on.
        port: 0 takes a free one; `None` serves nothing.
        registry: The metrics.
        reasons: Called for each request of `/health/ready`.
        tls: `None` for plain HTTP.
        backlog: Called likewise.
        ills: Called likewise, while the process is ready.
        telemetry: Where the metrics are sent, even without a port.

    Raises:
        CannotListen: The port is taken, or forbidden.
        segments.runtime.tls.UnusableTls: These files can't be used for TLS.
    """
    async with metrics_sent(telemetry, registry.collect):
        if port is None:
            yield None
            return
        async with _listening(setting, host, port, registry, reasons, tls, backlog, ills) as bound:
            yield bound


@asynccontextmanager
async def _listening(
    setting: str,
    host: str,
    port: int,
    registry: CollectorRegistry,
    reasons: Reasons,
    tls: TlsFiles | None,
    backlog: Backlog,
    ills: Reasons,
) -> AsyncIterator[int]:
    context = context_of(tls)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    add_health(app, reasons, backlog, ills)
    runner = http_server.runner_of(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            bound = await http_server.listen(runner, host, port, context)
        except OSError as error:
            raise CannotListen(setting, port, error) from None
        yield bound
    finally:
        await runner.cleanup()
