r"""
The composition root of the REST doors: which there are, and what they stand on.

    request -> door's operation -> answer
                    \ Problem  -> the door's own form of it

Every answer of every door passes here, so here is decided once what holds for
all: a bug is a 500 and a line in the log that names its place and not its
message; nothing is cached on the way; no URL, address or header is logged.
"""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from ssl import SSLContext

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from segments.admin import CannotListen, add_health, ledger_reasons, shown
from segments.api import openapi
from segments.api.door import Door, Operation
from segments.api.problem import Problem, problem_document
from segments.api.services import Services
from segments.api.tokens import UserTokens
from segments.blobs import Blobs
from segments.doors import bucket
from segments.doors.audience_upload import AudienceDoor
from segments.doors.login import LoginDoor
from segments.doors.presign import SigningKey
from segments.ledger.engine import open_ledger
from segments.ledger.own_secrets import own_secret
from segments.settings import Settings
from segments.store.connection import connect
from segments.tls import context_of

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
"""Of what is read into memory; an upload is not."""

_STOP_WITHIN_S = 20.0
_IDLE_S = 75.0
_LINGER_S = 2.0
_ACCESS_KEY_ID = "rtb-segments"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OPERATION = web.RequestKey("operation", tuple[str, str])


async def doors(services: Services) -> list[Door]:
    """Make all REST doors."""
    now_s = services.now_s()
    async with services.ledger.begin() as conn:
        token_secret = await own_secret(conn, "access tokens", now_s=now_s)
        upload_secret = await own_secret(conn, "upload urls", now_s=now_s)
    tokens = UserTokens(services, token_secret)
    return [
        LoginDoor(services, tokens),
        AudienceDoor(services, (tokens,), SigningKey(_ACCESS_KEY_ID, upload_secret.hex())),
    ]


def application(services: Services, all_doors: Sequence[Door]) -> web.Application:
    """Make the application of some doors."""
    app = web.Application(
        client_max_size=MAX_BODY_BYTES, middlewares=[_counted(services), _orderly]
    )
    for door in all_doors:
        for each in door.operations():
            app.router.add_route(
                each.spec.method,
                each.spec.path,
                _handler(each),
                expect_handler=_let_it_be if each.spec.expects_itself else None,
            )
    described = orjson.dumps(
        openapi.document(all_doors, title="rtb-segments", version=version("rtb-segments"))
    )

    async def describe(_: web.Request) -> web.Response:
        return web.Response(body=described, content_type="application/json")

    app.router.add_get("/openapi.json", describe)
    # The store may be away: what comes in meanwhile is kept for it.
    add_health(app, partial(ledger_reasons, services.ledger))
    return app


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """
    Serve the REST doors until told to stop; uploads under way may finish.

    Raises:
        CannotListen: A port can't be had.
        segments.tls.UnusableTls: There is no TLS with these files.
    """
    tls = context_of(settings.api_tls)
    async with open_ledger(settings) as ledger, connect(settings.store_url) as redis:
        services = Services(settings, ledger, redis, Blobs.open(settings))
        async with (
            shown(
                "SEGMENTS_API_ADMIN_PORT",
                settings.admin_host,
                settings.api_admin_port,
                services.metrics.registry,
                partial(ledger_reasons, ledger),
                settings.admin_tls,
            ),
            _listening(services, tls),
            asyncio.TaskGroup() as group,
        ):
            if services.blobs.takes_uploads:
                group.create_task(bucket.watch(services, stopping))
            await stopping.wait()


@asynccontextmanager
async def _listening(services: Services, tls: SSLContext | None) -> AsyncIterator[None]:
    settings = services.settings
    runner = runner_of(application(services, await doors(services)))
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.api_host, settings.api_port, ssl_context=tls).start()
        except OSError as error:
            raise CannotListen("SEGMENTS_API_PORT", settings.api_port, error) from None
        _log.info("listening on port %d", runner.addresses[0][1])
        yield
    finally:
        await runner.cleanup()


def runner_of(app: web.Application) -> web.AppRunner:
    """Make what runs an application: bodies as they come, and no log of who asked what."""
    return web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,  # a delivered .gz is a .gz; and nothing else may grow on arrival
        keepalive_timeout=_IDLE_S,
        lingering_time=_LINGER_S,
        shutdown_timeout=_STOP_WITHIN_S,
    )


def _handler(each: Operation) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        request[_OPERATION] = (each.door.tag, each.method.__name__)
        try:
            return await each(request)
        except Problem as problem:
            return each.door.problem(problem)
        except web.HTTPRequestEntityTooLarge:
            return each.door.problem(Problem(413, f"a body of more than {MAX_BODY_BYTES} bytes"))
        except web.HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours costs one request
            return each.door.problem(_bug(error))

    return handle


def _counted(services: Services) -> Middleware:
    """Count what is answered, whatever becomes of it."""
    metrics, clock_s = services.metrics, services.clock_s

    @web.middleware
    async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
        began_s, status = clock_s(), 499  # the client has gone: nobody was answered
        metrics.in_flight.inc()
        try:
            answer = await handler(request)
            status = answer.status
            return answer
        finally:
            metrics.in_flight.dec()
            metrics.answered(
                request.get(_OPERATION),
                status,
                received_bytes=request.content.total_bytes,
                seconds=clock_s() - began_s,
            )

    return counted


@web.middleware
async def _orderly(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        answer = await handler(request)
    except web.HTTPException as error:
        headers = (
            {str(hdrs.ALLOW): error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
        )
        answer = problem_document(Problem(error.status, headers=headers))
    if answer.status == web.HTTPUnauthorized.status_code:
        answer.headers.setdefault(hdrs.WWW_AUTHENTICATE, "Bearer")
    answer.headers[hdrs.CACHE_CONTROL] = "no-store"
    answer.headers[hdrs.SERVER] = "rtb-segments"
    if not request.content.at_eof():
        # What is left of the body is not worth reading, nor a request to come.
        answer.force_close()
    return answer


async def _let_it_be(_: web.Request) -> None:
    """Leave `Expect: 100-continue` to the operation."""


def _bug(error: Exception) -> Problem:
    # The type and the place, not the message: it could quote what was sent.
    frames = traceback.extract_tb(error.__traceback__)
    ours = next(frame for frame in reversed(frames) if "/segments/" in frame.filename)
    _log.error("%s at %s:%d", type(error).__name__, ours.name, ours.lineno)
    return Problem(500, "a fault of ours; it has been logged")
