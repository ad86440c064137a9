r"""
The composition root of the REST doors.

    request -> door's operation -> answer
                    \ Problem  -> the door's own form of it

Common rules apply here to every request: the problem for a failure of our own
(`segments.doors.rest.failures`), no caching, and no URL, address or header in a log.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from ssl import SSLContext

import orjson
from aiohttp import hdrs, web
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.audience_api import bucket_uploads
from segments.doors.audience_api.audiences_door import AudiencesDoor
from segments.doors.audience_api.door import AudienceDoor
from segments.doors.audience_api.login import LoginDoor
from segments.doors.callback_sender import CallbackMetrics, Callbacks
from segments.doors.crm_audience.audiences import CrmAudienceDoor
from segments.doors.crm_audience.login import CrmLoginDoor
from segments.doors.crm_audience.platform import CrmPlatformDoor
from segments.doors.external_audience.door import ExternalAudienceDoor
from segments.doors.partner_api.door import PartnerDoor
from segments.doors.privacy.agent import Refusals
from segments.doors.privacy.door import PrivacyDoor
from segments.doors.privacy.jwt import MAX_JWT_CHARS
from segments.doors.privacy.legacy_door import PIXELS, LegacyDoor
from segments.doors.privacy.report_store import ACCESS_KEY_ID, Reports, open_reports
from segments.doors.privacy.submission import Submissions
from segments.doors.rest import openapi
from segments.doors.rest.access_tokens import UserTokens
from segments.doors.rest.bodies import Bodies
from segments.doors.rest.docs_page import browse
from segments.doors.rest.door import Door, Operation
from segments.doors.rest.failures import problem_of
from segments.doors.rest.idempotency import Once
from segments.doors.rest.logins import Logins
from segments.doors.rest.observed import OPERATION, Handler, observing, say_request_id
from segments.doors.rest.orderly import orderly
from segments.doors.rest.presigned_url import SigningKey
from segments.doors.rest.problem import Problem
from segments.doors.rest.rate_limit import RateLimit
from segments.doors.rest.services import Services
from segments.doors.rest.session_cookie import SessionCookie
from segments.files.blobs import Blobs
from segments.ledger.database.engine import open_ledger
from segments.ledger.health import ledger_reasons
from segments.ledger.processes import ProcessKind
from segments.ledger.signing_secrets import own_secret
from segments.projection.bucket_look import BucketLook
from segments.projection.ills import Ills
from segments.projection.ledger_guard import LedgerGuard
from segments.projection.one_ledger import before_making
from segments.runtime import http_server
from segments.runtime.admin_port import add_health, shown
from segments.runtime.http_limits import Limits
from segments.runtime.ports import CannotListen
from segments.runtime.spans import NO_SPANS, Spans, sending_spans
from segments.runtime.tls import context_of
from segments.settings import Settings
from segments.store.servers.connection import connect
from segments.upkeep.presence import present

_log = logging.getLogger(__name__)

_STOP_WITHIN_S = 20.0
_IDLE_S = 75.0
_LINGER_S = 2.0
_HTTPS_ONLY_S = 365 * 86_400


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
    upload_key = SigningKey(ACCESS_KEY_ID, upload_secret.hex())
    return [
        LoginDoor(services, tokens, logins),
        AudienceDoor(services, settings.audience_options, (tokens,), upload_key),
        AudiencesDoor(services, settings.audience_options, (tokens,), upload_key),
        PartnerDoor(services, (tokens,)),
        ExternalAudienceDoor(services, settings.external_options),
        PrivacyDoor(services, submissions, refusals, reports),
        LegacyDoor(services, submissions, refusals, privacy.audience),
        CrmLoginDoor(services, cookie, logins),
        CrmPlatformDoor(services, (cookie, tokens)),
        CrmAudienceDoor(services, (cookie, tokens)),
    ]


def application(
    services: Services,
    all_doors: Sequence[Door],
    guard: LedgerGuard | None = None,
    spans: Spans = NO_SPANS,
) -> web.Application:
    """
    Make the application for some doors.

    Args:
        services: Shared by the doors.
        all_doors: The doors to serve.
        guard: While it refuses the ledger, every operation answers 503; `None` never refuses.
        spans: Of each request.
    """
    guard = guard or LedgerGuard(services.ledger, services.redis)
    app = web.Application(
        client_max_size=1,  # bodies are read by segments.doors.rest.bodies, or streamed
        middlewares=[
            *observing(services, spans),
            *(middleware for door in all_doors for middleware in door.middlewares),
            orderly(all_doors),
        ],
    )
    app.on_response_prepare.append(_say_https_only)
    app.on_response_prepare.append(say_request_id)
    limit, once, bodies = RateLimit(services), Once(services), Bodies()
    for door in all_doors:
        app.on_cleanup.append(_closing(door))
        for each in door.operations():
            for path in _paths(door, each):
                app.router.add_route(
                    each.spec.method,
                    path,
                    _handler(each, limit, once, bodies, guard),
                    expect_handler=_let_it_be if each.spec.expects_itself else None,
                )
    described = orjson.dumps(
        openapi.document(all_doors, title="rtb-segments", version=version("rtb-segments"))
    )

    async def describe(_: web.Request) -> web.Response:
        return web.Response(body=described, content_type="application/json")

    app.router.add_get("/openapi.json", describe)
    app.router.add_get("/docs", browse)
    # Healthy even if the store is away: changes wait for it in the ledger.
    add_health(app, partial(_reasons, services.ledger, guard), services.waiting.backlog)
    return app


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """
    Serve the REST doors until told to stop; uploads in progress may finish.

    Raises:
        CannotListen: A port is not available.
        segments.runtime.tls.UnusableTls: The files give no TLS.
    """
    tls = context_of(settings.api_tls)
    async with (
        connect(settings.store_url) as redis,
        open_ledger(settings.ledger_dsn, before_making(redis, settings.embedded_in)) as ledger,
    ):
        guard = LedgerGuard(ledger, redis)
        await guard.start()
        services = Services(
            settings.rest_options,
            ledger,
            redis,
            Blobs.open(settings.blobs_at, settings.reserve_bytes),
        )
        reports = await open_reports(services, settings.privacy_options)
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
                Ills(
                    ledger,
                    services.blobs,
                    settings.data_dir,
                    settings.reserve_bytes,
                    embedded_in=settings.embedded_in,
                    bucket=BucketLook(services.blobs),
                ),
                telemetry=settings.telemetry("api"),
            ),
            present(ledger, ProcessKind.REST, partial(_reasons, ledger, guard)),
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
    async with sending_spans(settings.telemetry("api")) as spans:
        app = application(services, await doors(settings, services, reports), guard, spans)
        runner = runner_of(app, settings.api_limits)
        await runner.setup()
        try:
            try:
                port = await http_server.listen(runner, settings.api_host, settings.api_port, tls)
            except OSError as error:
                raise CannotListen("SEGMENTS_API_PORT", settings.api_port, error) from None
            _log.info("listening on port %d", port)
            yield
        finally:
            await runner.cleanup()


async def _reasons(ledger: AsyncEngine, guard: LedgerGuard) -> list[str]:
    return [*guard.reasons(), *await ledger_reasons(ledger)]


def runner_of(app: web.Application, limits: Limits) -> web.AppRunner:
    """Make an application's runner: bodies stay compressed; only pixels may have long heads."""
    return http_server.runner_of(
        app,
        limits=limits,
        long_heads=dict.fromkeys(PIXELS, http_server.MAX_HEAD_BYTES + MAX_JWT_CHARS),
        auto_decompress=False,  # a delivered .gz stays a .gz, and no body may expand on arrival
        keepalive_timeout=_IDLE_S,
        lingering_time=_LINGER_S,
        shutdown_timeout=_STOP_WITHIN_S,
    )


def _any_case(path: str) -> str:
    """Return a pattern of a route's path in any case."""
    parts = path.removeprefix("/").split("/")
    return "".join(
        f"/{part}" if part.startswith("{") or not part else f"/{{_{n}:(?i:{part})}}"
        for n, part in enumerate(parts)
    )


def _paths(door: Door, each: Operation) -> list[str]:
    paths = [each.spec.path, *door.also_at(each.spec.path)]
    return [_any_case(path) for path in paths] if door.ignores_case else paths


def _closing(door: Door) -> Callable[[web.Application], Awaitable[None]]:
    async def close(_: web.Application) -> None:
        await door.close()

    return close


def _handler(
    each: Operation, limit: RateLimit, once: Once, bodies: Bodies, guard: LedgerGuard
) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        request[OPERATION] = (each.door.tag, each.method.__name__)
        try:
            if guard.reasons():
                raise Problem(503, "the ledger is not the one to write to: the operator must look")
            return await each(request, limit, once, bodies)
        except Problem as problem:
            return each.door.problem(problem)
        except web.HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - a failure of ours must cost a single request
            return each.door.problem(problem_of(error))

    return handle


async def _say_https_only(request: web.Request, answer: web.StreamResponse) -> None:
    # Only on this port: the header applies to all ports of the host name (RFC 6797, 8.3).
    if request.secure:
        answer.headers[hdrs.STRICT_TRANSPORT_SECURITY] = f"max-age={_HTTPS_ONLY_S}"


async def _let_it_be(_: web.Request) -> None:
    """Leave `Expect: 100-continue` to the operation."""
