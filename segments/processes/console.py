"""
The composition root of the console.

A process of its own, not pages on the partners' API port: another origin, other limits, and a proxy
can publish either without the other.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from ssl import SSLContext

from aiohttp import web

from segments.console.application import Page, application
from segments.console.bid_history import BidHistory
from segments.console.checks import Checks
from segments.console.options import ConsoleOptions
from segments.console.pages.account import account_pages
from segments.console.pages.audience_list import audience_list_pages
from segments.console.pages.audience_windows import audience_window_pages
from segments.console.pages.audiences import audience_pages
from segments.console.pages.deliveries import delivery_pages
from segments.console.pages.downloads import download_pages
from segments.console.pages.login import login_pages
from segments.console.pages.operations import operation_pages
from segments.console.pages.partner_admin import partner_admin_pages
from segments.console.pages.partners import partner_pages
from segments.console.pages.person_requests import person_request_pages
from segments.console.pages.playground import playground_pages
from segments.console.pages.privacy import privacy_pages
from segments.console.pages.privacy_keys import privacy_key_pages
from segments.console.pages.recipients import recipient_pages
from segments.console.pages.trail import trail_pages
from segments.console.pages.upload import upload_pages
from segments.console.visit import Console
from segments.doors.privacy.agent import Refusals
from segments.doors.privacy.options import PrivacyOptions
from segments.doors.privacy.report_store import Reports, open_reports
from segments.doors.privacy.submission import Submissions
from segments.doors.rest.services import Services
from segments.files.blobs import Blobs
from segments.ledger.database.engine import open_ledger
from segments.ledger.health import ledger_reasons
from segments.ledger.processes import ProcessKind
from segments.model.role import STAFF_ROLES, Role
from segments.processes.deployment import deployment_of
from segments.projection.ledger_guard import LedgerGuard
from segments.projection.one_ledger import before_making
from segments.runtime import http_server
from segments.runtime.admin_port import add_health
from segments.runtime.http_limits import Limits
from segments.runtime.ports import CannotListen
from segments.runtime.spans import NO_SPANS, Spans, sending_spans
from segments.runtime.telemetry import metrics_sent
from segments.runtime.tls import context_of
from segments.settings import Settings
from segments.store.servers.connection import connect
from segments.upkeep.listeners import Listeners
from segments.upkeep.presence import present

_log = logging.getLogger(__name__)

_STOP_WITHIN_S = 20.0
_IDLE_S = 75.0
_LINGER_S = 2.0


def pages() -> list[Page]:
    """Return all pages."""
    return [
        *login_pages(),
        *account_pages(),
        *audience_list_pages(),
        *audience_pages(),
        *audience_window_pages(),
        *delivery_pages(),
        *download_pages(),
        *upload_pages(),
        *partner_admin_pages(),
        *privacy_pages(),
        *person_request_pages(),
        *privacy_key_pages(),
        *operation_pages(),
        *playground_pages(),
        *partner_pages(),
        *recipient_pages(),
        *trail_pages(),
    ]


def sites(
    services: Services,
    options: ConsoleOptions,
    privacy: PrivacyOptions,
    reports: Reports,
    guard: LedgerGuard | None = None,
    checks: Checks | None = None,
    listeners: Listeners = Listeners(),  # noqa: B008 - immutable
    spans: Spans = NO_SPANS,
    history: BidHistory | None = None,
) -> dict[str, web.Application]:
    """
    Return the applications by the setting of their port: one for all, or one more for staff.

    Args:
        services: Of the REST doors, without their public URL.
        options: Where the console is.
        privacy: Of the Privacy API, whose rules are the privacy desk's.
        reports: Of access requests.
        guard: While it refuses the ledger, the console is not ready; `None` never refuses.
        checks: Of the deployment, for operators; `None`: there are none.
        listeners: For explanations of bids.
        spans: Of each request.
        history: Of bids; `None`: unknown.
    """
    history, checks = history or BidHistory(), checks or Checks()
    guard = guard or LedgerGuard(services.ledger, services.redis)
    submissions = Submissions(services, Refusals(services), reports, privacy)
    staffs = frozenset(STAFF_ROLES)
    port_to_roles = {"SEGMENTS_CONSOLE_PORT": frozenset(Role)}
    if options.staff_port is not None:
        port_to_roles = {
            "SEGMENTS_CONSOLE_PORT": frozenset({Role.PARTNER}),
            "SEGMENTS_CONSOLE_STAFF_PORT": staffs,
        }
    setting_to_app = {}
    for setting, roles in port_to_roles.items():
        app = application(
            Console(services, options, submissions, reports, roles, checks, listeners, history),
            pages(),
            partial(add_health, reasons=partial(_reasons, services, guard)),
            spans,
        )
        setting_to_app[setting] = app
    return setting_to_app


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """
    Serve the console until told to stop.

    Raises:
        CannotListen: A port is not available.
        segments.console.options.UnsafeConsole: Other machines would reach it without TLS.
        segments.runtime.tls.UnusableTls: The files give no TLS.
    """
    options = settings.console_options
    options.check()
    tls = context_of(settings.console_tls)
    rest = replace(settings.rest_options, public_url=options.public_url)
    async with (
        connect(settings.store_url) as redis,
        open_ledger(settings.ledger_dsn, before_making(redis, settings.embedded_in)) as ledger,
    ):
        guard = LedgerGuard(ledger, redis)
        await guard.start()
        blobs = Blobs.open(settings.blobs_at, settings.reserve_bytes)
        services = Services(rest, ledger, redis, blobs)
        reports = await open_reports(services, settings.privacy_options)
        telemetry = settings.telemetry("console")
        history = BidHistory(settings.listeners.urls, services.now_s)
        checks = Checks(deployment_of(settings), services.now_s)
        async with (
            sending_spans(telemetry) as spans,
            metrics_sent(telemetry, services.metrics.registry.collect),
            present(ledger, ProcessKind.CONSOLE, partial(_reasons, services, guard)),
            listening(
                sites(
                    services,
                    options,
                    settings.privacy_options,
                    reports,
                    guard,
                    checks,
                    settings.listeners,
                    spans,
                    history,
                ),
                options,
                settings.api_limits,
                tls,
            ),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(guard.run(stopping))
            group.create_task(history.run(stopping))
            group.create_task(checks.run(stopping))
            group.create_task(services.waiting.run(stopping))
            group.create_task(reports.run(stopping))
            await stopping.wait()


@asynccontextmanager
async def listening(
    setting_to_app: dict[str, web.Application],
    options: ConsoleOptions,
    limits: Limits,
    tls: SSLContext | None = None,
) -> AsyncIterator[dict[str, int]]:
    """
    Serve the applications while the context lasts; yields their ports by setting.

    Raises:
        CannotListen: A port is not available.
    """
    setting_to_port = {
        "SEGMENTS_CONSOLE_PORT": options.port,
        "SEGMENTS_CONSOLE_STAFF_PORT": options.staff_port or 0,
    }
    async with AsyncExitStack() as stack:
        bound = {}
        for setting, app in setting_to_app.items():
            runner = http_server.runner_of(
                app,
                limits=limits,
                auto_decompress=False,  # a delivered .gz stays a .gz
                keepalive_timeout=_IDLE_S,
                lingering_time=_LINGER_S,
                shutdown_timeout=_STOP_WITHIN_S,
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            port = setting_to_port[setting]
            try:
                bound[setting] = await http_server.listen(runner, options.host, port, tls)
            except OSError as error:
                raise CannotListen(setting, port, error) from None
            _log.info("listening on port %d", bound[setting])
        yield bound


async def _reasons(services: Services, guard: LedgerGuard) -> list[str]:
    return [*guard.reasons(), *await ledger_reasons(services.ledger)]
