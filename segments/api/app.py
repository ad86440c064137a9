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
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version

import orjson
from aiohttp import hdrs, web
from sqlalchemy.exc import SQLAlchemyError

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
from segments.ledger.engine import open_ledger, reading
from segments.ledger.own_secrets import own_secret
from segments.ledger.users import count_users
from segments.settings import Settings
from segments.store.connection import connect

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
"""Of what is read into memory; an upload is not."""

_STOP_WITHIN_S = 20.0
_IDLE_S = 75.0
_LINGER_S = 2.0
_ACCESS_KEY_ID = "rtb-segments"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_orderly])
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

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def ready(_: web.Request) -> web.Response:
        # The store may be away: what comes in meanwhile is kept for it.
        try:
            async with reading(services.ledger) as conn:
                await count_users(conn)
        except (SQLAlchemyError, OSError) as error:
            reasons = [f"ledger ({type(error).__name__})"]
            return web.json_response({"ready": False, "reasons": reasons}, status=503)
        return web.json_response({"ready": True, "reasons": []})

    app.router.add_get("/openapi.json", describe)
    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", ready)
    return app


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """
    Serve the REST doors until told to stop; uploads under way may finish.

    Raises:
        OSError: The port can't be had.
    """
    async with open_ledger(settings) as ledger, connect(settings.store_url) as redis:
        services = Services(settings, ledger, redis, Blobs.open(settings))
        async with asyncio.TaskGroup() as group:
            runner = runner_of(application(services, await doors(services)))
            await runner.setup()
            try:
                await web.TCPSite(runner, settings.api_host, settings.api_port).start()
                _log.info("listening on port %d", runner.addresses[0][1])
                if services.blobs.takes_uploads:
                    group.create_task(bucket.watch(services, stopping))
                await stopping.wait()
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
