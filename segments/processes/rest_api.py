r"""
The composition root of the REST doors: which there are, and what they stand on.

    request -> door's operation -> answer
                    \ Problem  -> the door's own form of it

Every answer of every door passes here, so here is decided once what holds for
all: a bug is a 500 and a line in the log that names its place and not its
message; nothing is cached on the way; no URL, address or header is logged.
"""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from ssl import SSLContext

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.audience_api import bucket_uploads
from segments.doors.audience_api.door import AudienceDoor
from segments.doors.audience_api.login import LoginDoor
from segments.doors.callback_sender import CallbackMetrics, Callbacks
from segments.doors.crm_audience.audiences import CrmAudienceDoor
from segments.doors.crm_audience.login import CrmLoginDoor
from segments.doors.crm_audience.platform import CrmPlatformDoor
from segments.doors.external_audience.door import ExternalAudienceDoor
from segments.doors.privacy.agent import Refusals
from segments.doors.privacy.door import PrivacyDoor
from segments.doors.privacy.jwt import MAX_JWT_CHARS
from segments.doors.privacy.legacy_door import PIXELS, LegacyDoor
from segments.doors.privacy.options import PrivacyOptions
from segments.doors.privacy.report_store import Reports
from segments.doors.privacy.submission import Submissions
from segments.doors.rest import openapi
from segments.doors.rest.access_tokens import UserTokens
from segments.doors.rest.docs_page import browse
from segments.doors.rest.door import Door, Operation
from segments.doors.rest.idempotency import Once
from segments.doors.rest.logins import Logins
from segments.doors.rest.orderly import orderly
from segments.doors.rest.presigned_url import SigningKey
from segments.doors.rest.problem import Problem
from segments.doors.rest.rate_limit import RateLimit
from segments.doors.rest.services import Services
from segments.doors.rest.session_cookie import SessionCookie
from segments.files.blobs import Blobs
from segments.ledger.database.engine import open_ledger
from segments.ledger.database.errors import will_pass
from segments.ledger.health import ledger_reasons
from segments.ledger.signing_secrets import own_secret
from segments.projection.ledger_guard import LedgerGuard
from segments.projection.one_ledger import before_making
from segments.runtime import http_server
from segments.runtime.admin_port import CannotListen, add_health, shown
from segments.runtime.bug_place import bug_place
from segments.runtime.tls import context_of
from segments.settings import Settings
from segments.store.reader import StoreUnusable
from segments.store.servers.connection import connect

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
"""Of what is read into memory; an upload is not."""

_STOP_WITHIN_S = 20.0
_IDLE_S = 75.0
_LINGER_S = 2.0
_AWAY_FOR_S = 2
_FULL = (errno.ENOSPC, errno.EDQUOT)
_HTTPS_ONLY_S = 365 * 86_400
_ACCESS_KEY_ID = "rtb-segments"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OPERATION = web.RequestKey("operation", tuple[str, str])


async def doors(settings: Settings, services: Services, reports: Reports) -> list[Door]:
    """Make all REST doors."""
    now_s = services.now_s()
    async with services.ledger.begin() as conn:
        token_secret = await own_secret(conn, "access tokens", now_s=now_s)
        upload_secret = await own_secret(conn, "upload urls", now_s=now_s)
    tokens = UserTokens(services, token_secret)
    refusals = Refusals(services)
    privacy = settings.privacy_options
    submissions = Submissions(services, refusals, reports, privacy)
    logins = Logins(services)
    cookie = SessionCookie(tokens)
    return [
        LoginDoor(services, tokens, logins),
        AudienceDoor(
            services,
            settings.audience_options,
            (tokens,),
            SigningKey(_ACCESS_KEY_ID, upload_secret.hex()),
        ),
        ExternalAudienceDoor(services, settings.external_options),
        PrivacyDoor(services, submissions, refusals, reports),
        LegacyDoor(services, submissions, refusals, privacy.audience),
        CrmLoginDoor(services, cookie, logins),
        CrmPlatformDoor(services, (cookie, tokens)),
        CrmAudienceDoor(services, (cookie, tokens)),
    ]


async def reports_of(services: Services, options: PrivacyOptions) -> Reports:
    """Make what makes the reports of access requests, and hands them out."""
    async with services.ledger.begin() as conn:
        secret = await own_secret(conn, "report urls", now_s=services.now_s())
    return Reports(services, options, SigningKey(_ACCESS_KEY_ID, secret.hex()))


def application(
    services: Services, all_doors: Sequence[Door], guard: LedgerGuard | None = None
) -> web.Application:
    """
    Make the application of some doors.

    Args:
        services: What they stand on.
        all_doors: Which.
        guard: While it refuses the ledger, every operation answers 503; `None`: there is no
            store to ask.
    """
    guard = guard or LedgerGuard(services.ledger, services.redis)
    app = web.Application(
        client_max_size=MAX_BODY_BYTES,
        middlewares=[
            _counted(services),
            *(middleware for door in all_doors for middleware in door.middlewares),
            orderly(all_doors),
        ],
    )
    app.on_response_prepare.append(_say_what_browsers_may_do)
    limit, once = RateLimit(services), Once(services)
    for door in all_doors:
        app.on_cleanup.append(_closing(door))
        for each in door.operations():
            for path in _paths(door, each):
                app.router.add_route(
                    each.spec.method,
                    path,
                    _handler(each, limit, once, guard),
                    expect_handler=_let_it_be if each.spec.expects_itself else None,
                )
    described = orjson.dumps(
        openapi.document(all_doors, title="rtb-segments", version=version("rtb-segments"))
    )

    async def describe(_: web.Request) -> web.Response:
        return web.Response(body=described, content_type="application/json")

    app.router.add_get("/openapi.json", describe)
    app.router.add_get("/docs", browse)
    # The store may be away: what comes in meanwhile is kept for it.
    add_health(app, partial(_reasons, services.ledger, guard), services.waiting.backlog)
    return app


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """
    Serve the REST doors until told to stop; uploads under way may finish.

    Raises:
        CannotListen: A port can't be had.
        segments.runtime.tls.UnusableTls: There is no TLS with these files.
    """
    tls = context_of(settings.api_tls)
    async with (
        connect(settings.store_url) as redis,
        open_ledger(settings.ledger_dsn, before_making(redis, settings.embedded_in)) as ledger,
    ):
        guard = LedgerGuard(ledger, redis)
        await guard.start()
        services = Services(settings.rest_options, ledger, redis, Blobs.open(settings.blobs_at))
        reports = await reports_of(services, settings.privacy_options)
        callbacks = Callbacks(
            ledger,
            settings.callback_hosts,
            metrics=CallbackMetrics(services.metrics.registry),
        )
        async with (
            shown(
                "SEGMENTS_API_ADMIN_PORT",
                settings.admin_host,
                settings.api_admin_port,
                services.metrics.registry,
                partial(_reasons, ledger, guard),
                settings.admin_tls,
                services.waiting.backlog,
            ),
            _listening(settings, services, reports, tls, guard),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(guard.run(stopping))
            group.create_task(reports.run(stopping))
            group.create_task(services.waiting.run(stopping))
            group.create_task(callbacks.run(stopping))
            if services.blobs.takes_uploads:
                group.create_task(
                    bucket_uploads.watch(services, settings.upload_max_bytes, stopping)
                )
            await stopping.wait()


@asynccontextmanager
async def _listening(
    settings: Settings,
    services: Services,
    reports: Reports,
    tls: SSLContext | None,
    guard: LedgerGuard,
) -> AsyncIterator[None]:
    runner = runner_of(application(services, await doors(settings, services, reports), guard))
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


async def _reasons(ledger: AsyncEngine, guard: LedgerGuard) -> list[str]:
    return [*guard.reasons(), *await ledger_reasons(ledger)]


def runner_of(app: web.Application) -> web.AppRunner:
    """Make what runs an application: bodies as they come, and long heads for pixels alone."""
    return http_server.runner_of(
        app,
        long_heads=dict.fromkeys(PIXELS, http_server.MAX_HEAD_BYTES + MAX_JWT_CHARS),
        auto_decompress=False,  # a delivered .gz is a .gz; and nothing else may grow on arrival
        keepalive_timeout=_IDLE_S,
        lingering_time=_LINGER_S,
        shutdown_timeout=_STOP_WITHIN_S,
    )


def _any_case(path: str) -> str:
    """Return a route's path that is found in any case: each name in it becomes a pattern."""
    parts = path.removeprefix("/").split("/")
    return "".join(
        f"/{part}" if part.startswith("{") or not part else f"/{{_{n}:(?i:{part})}}"
        for n, part in enumerate(parts)
    )


def _paths(door: Door, each: Operation) -> list[str]:
    """Return the routes' paths of an operation."""
    paths = [each.spec.path, *door.also_at(each.spec.path)]
    return [_any_case(path) for path in paths] if door.ignores_case else paths


def _closing(door: Door) -> Callable[[web.Application], Awaitable[None]]:
    async def close(_: web.Application) -> None:
        await door.close()

    return close


def _handler(each: Operation, limit: RateLimit, once: Once, guard: LedgerGuard) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        request[_OPERATION] = (each.door.tag, each.method.__name__)
        try:
            if guard.reasons():
                raise Problem(503, "the ledger is not the one to write to: the operator must look")
            return await each(request, limit, once)
        except Problem as problem:
            return each.door.problem(problem)
        except web.RequestPayloadError:
            return each.door.problem(
                Problem(400, "the body broke off, or is not what its head says")
            )
        except web.HTTPRequestEntityTooLarge:
            return each.door.problem(Problem(413, f"a body of more than {MAX_BODY_BYTES} bytes"))
        except web.HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours costs one request
            return each.door.problem(_away(error) or _bug(error))

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


async def _say_what_browsers_may_do(request: web.Request, answer: web.StreamResponse) -> None:
    answer.headers[hdrs.X_CONTENT_TYPE_OPTIONS] = "nosniff"
    if request.secure:
        answer.headers[hdrs.STRICT_TRANSPORT_SECURITY] = f"max-age={_HTTPS_ONLY_S}"


async def _let_it_be(_: web.Request) -> None:
    """Leave `Expect: 100-continue` to the operation."""


def _away(error: Exception) -> Problem | None:
    """Return the problem of a request that could not be served now for want of a part; or none."""
    status = 503
    if isinstance(error, (RedisError, StoreUnusable)):
        what = "the store of memberships"
    elif isinstance(error, OSError):
        what = "the storage"
        status = 507 if error.errno in _FULL else 503
    elif will_pass(error):
        what = "the ledger"
    else:
        return None
    _log.error("%s can't be used: %s", what, type(error).__name__)
    said = f"{what} is full" if status == 507 else f"{what} can't be used at the moment"
    headers = {"Retry-After": str(_AWAY_FOR_S)}
    return Problem(status, f"{said}; send it again later", headers=headers)


def _bug(error: Exception) -> Problem:
    _log.error("%s", bug_place(error))
    return Problem(500, "a fault of ours; it has been logged")
