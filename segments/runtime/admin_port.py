"""
What a process of the control plane shows to whoever runs it.

    /metrics        for Prometheus
    /health/live    200 while its event loop turns
    /health/ready   200 if it can do its work; else 503 and why not; with ?strict also
                    503 while something waits that others have to do

On a port of its own that partners never reach: what is counted here is nobody's
business but the operator's. The bid listener has its own, `rtb.server.metrics.admin_port`.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from segments.runtime import http_server
from segments.runtime.health import Health
from segments.runtime.tls import TlsFiles, context_of

Reasons = Callable[[], Awaitable[Sequence[str]]]
"""Tells why a process can't do its work; nothing if it can."""


Backlog = Callable[[], Awaitable[Mapping[str, float]]]
"""Tells what waits, as further members of `/health/ready`; each is 0 while nothing does."""


async def nothing_waits() -> Mapping[str, float]:
    """Tell of no backlog."""
    return {}


class CannotListen(Exception):
    """A port can't be had; the message names its setting and says why."""

    def __init__(self, setting: str, port: int, error: OSError) -> None:
        super().__init__(f"{setting}={port}: {os.strerror(error.errno or 0)}")


def add_health(app: web.Application, reasons: Reasons, backlog: Backlog = nothing_waits) -> None:
    """Let an application answer whether it lives and whether it is ready."""

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def ready(request: web.Request) -> web.Response:
        return Health(await reasons(), waiting=await backlog()).answer(request)

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
) -> AsyncIterator[int | None]:
    """
    Show metrics and health for as long as the context lasts; gives the port.

    Args:
        setting: What the operator calls the port.
        host: The address to listen on.
        port: 0 takes a free one; `None` shows nothing.
        registry: What is counted.
        reasons: Asked at each look at `/health/ready`.
        tls: What to serve with; `None` for plain HTTP.
        backlog: Likewise.

    Raises:
        CannotListen: The port is taken, or not ours to take.
        segments.runtime.tls.UnusableTls: There is no TLS with these files.
    """
    if port is None:
        yield None
        return
    context = context_of(tls)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    add_health(app, reasons, backlog)
    runner = http_server.runner_of(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, ssl_context=context).start()
        except OSError as error:
            raise CannotListen(setting, port, error) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
