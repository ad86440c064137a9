"""
The SFTP door, for OpenSSH's `sftp` and similar clients: the listener and the login.

Each partner has a flat folder, and nothing else: no shell, commands, forwarding, or scp except over
SFTP (OpenSSH 9); `segments.doors.sftp.session` has the folder's rules. The user name is the partner
id. Only the partner's keys in the ledger log in, or certificates of an authority among them.

    not logged in   SEGMENTS_SFTP_MAX_STARTUPS, in all and per address: the oldest is cut off
    logged in       SEGMENTS_SFTP_MAX_SESSIONS, in all and per partner: the newcomer is told why
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple, cast

import asyncssh
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.folder import DropFolder
from segments.doors.live_audience.metrics import DeliveryMetrics
from segments.doors.sftp.host_key import host_keys
from segments.doors.sftp.metrics import ACCEPTED, REFUSED, SftpMetrics
from segments.doors.sftp.options import SftpOptions
from segments.doors.sftp.partner_keys import PartnerKeys
from segments.doors.sftp.refusal_log import RefusalLog
from segments.doors.sftp.session import Session
from segments.ledger import accounts, quotas
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.live_audience import ssh_keys
from segments.ledger.live_audience.ssh_keys import SshKey
from segments.model.quota import OverQuota
from segments.runtime.addresses import source_of
from segments.runtime.ports import CannotListen
from segments.runtime.startups import Startups

_log = logging.getLogger(__name__)

LOGIN_WITHIN_S = 30
KEEPALIVE_S = 15
_KEY_ENDED_EVERY_S = 5.0


class _LoggedIn(NamedTuple):
    partner_id: str
    fingerprint: str


class SftpServer:
    """The listener, and the shared state of its sessions."""

    def __init__(
        self,
        options: SftpOptions,
        ledger: AsyncEngine,
        folders: DropFolder,
        *,
        metrics: SftpMetrics | None = None,
        deliveries: DeliveryMetrics | None = None,
    ) -> None:
        self.options = options
        self.ledger = ledger
        self.metrics = metrics or SftpMetrics(CollectorRegistry())
        self.deliveries = deliveries or DeliveryMetrics(CollectorRegistry())
        self._folders = folders
        self.connections: set[_Connection] = set()
        self.startups: Startups[_Connection] = Startups(
            options.max_startups, options.max_startups_per_address
        )
        self.refusals = RefusalLog(_log)
        self._notes: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """
        Listen while the context is open; yields the port.

        Raises:
            CannotListen: The port is in use or not permitted.
        """
        options = self.options
        keys = await host_keys(self.ledger, options.key_dir, now_s=time.time())
        try:
            listener = await asyncssh.create_server(
                lambda: _Connection(self),
                options.host,
                options.port,
                server_host_keys=keys,
                server_version="rtb-segments",
                config=None,  # ignore this machine's own sshd configuration
                sftp_factory=self._session,
                encoding=None,
                allow_scp=False,
                allow_pty=False,
                agent_forwarding=False,
                x11_forwarding=False,
                public_key_auth=True,
                password_auth=False,
                kbdint_auth=False,
                host_based_auth=False,
                gss_host=None,
                compression_algs=["none"],  # files are compressed already, or should be
                login_timeout=LOGIN_WITHIN_S,
                keepalive_interval=KEEPALIVE_S,
                reuse_address=True,
            )
        except OSError as error:
            raise CannotListen("SEGMENTS_SFTP_PORT", options.port, error) from None
        watching = asyncio.create_task(self._end_removed_keys())
        try:
            _log.info("SFTP on port %d", listener.get_port())
            yield listener.get_port()
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            listener.close()
            for connection in list(self.connections):
                connection.end("the server stops")
            await listener.wait_closed()
            await asyncio.gather(*self._notes)

    def _session(self, chan: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        connection = cast("_Connection", chan.get_connection().get_owner())
        assert connection.logged_in is not None, "sessions come after the login"
        partner_id = connection.logged_in.partner_id
        sessions = sum(each.sessions for each in self.connections_of(partner_id))
        if sessions >= self.options.max_sessions_per_partner:
            reason = f"more than {self.options.max_sessions_per_partner} sessions of this partner"
            self.refusals.tell(partner_id, "session", reason)
            raise asyncssh.DisconnectError(asyncssh.DISC_TOO_MANY_CONNECTIONS, reason)
        folder = self._folders.of(partner_id)

        def ended() -> None:
            connection.sessions -= 1
            self.metrics.sessions.dec()

        connection.sessions += 1
        self.metrics.sessions.inc()
        return Session(
            chan,
            partner_id,
            folder,
            self.options,
            metrics=self.metrics,
            deliveries=self.deliveries,
            refusals=self.refusals,
            over_quota=partial(self._over_quota, partner_id),
            ended=ended,
        )

    async def _over_quota(self, partner_id: str) -> str:
        """Return why a partner is over quota; empty if it is not, or the ledger is away."""
        try:
            async with reading(self.ledger) as conn:
                partner = await accounts.find_partner(conn, partner_id)
                if partner is not None:
                    await quotas.check_delivery(conn, partner.id, 0, time.time())
        except OverQuota as over:
            return str(over)
        except LEDGER_FAILURES:  # the quota is checked again when the file becomes a job
            return ""
        return ""

    def connections_of(self, partner_id: str) -> "list[_Connection]":
        """Return the logged-in connections of a partner."""
        return [
            each
            for each in self.connections
            if each.logged_in is not None and each.logged_in.partner_id == partner_id
        ]

    def too_many(self, partner_id: str) -> str | None:
        """Return why a partner must be turned away after its login, or `None`."""
        options = self.options
        if len(self.connections_of(partner_id)) >= options.max_sessions_per_partner:
            return f"more than {options.max_sessions_per_partner} connections of this partner"
        if sum(each.logged_in is not None for each in self.connections) >= options.max_sessions:
            return "the server has all the connections that it holds; try again later"
        return None

    def note_use(self, key: SshKey) -> None:
        """Record that a partner has logged in with a key, without delay for its session."""
        task = asyncio.create_task(ssh_keys.note_use(self.ledger, key, now_s=time.time()))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _end_removed_keys(self) -> None:

        while True:
            await asyncio.sleep(_KEY_ENDED_EVERY_S)
            for connection in list(self.connections):
                if connection.logged_in is None:
                    continue
                try:
                    async with reading(self.ledger) as conn:
                        still = await ssh_keys.authorized(conn, *connection.logged_in)
                except LEDGER_FAILURES as error:
                    _log.error("the ledger can't be read: %s", type(error).__name__)
                    break
                if still is None:
                    connection.end("the key is no longer one of the partner's")


class _Connection(asyncssh.SSHServer):
    def __init__(self, server: SftpServer) -> None:
        self.logged_in: _LoggedIn | None = None
        self.sessions = 0
        self._keys = PartnerKeys("", ())
        self._server = server
        self._conn: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Register the client; if too many lack a login, cut off the oldest."""
        self._conn = conn
        server = self._server
        address = conn.get_extra_info("peername", ("",))[0]
        for oldest in server.startups.begin(self, source_of(address)):
            server.refusals.tell(None, "login", "more clients than may be without a login")
            server.metrics.login("turned_away")
            oldest.abort()
        server.connections.add(self)
        server.metrics.connections.inc()

    def connection_lost(self, exc: Exception | None) -> None:
        was_waiting = self in self._server.startups
        self._server.startups.end(self)
        self._server.connections.remove(self)
        self._server.metrics.connections.dec()
        if was_waiting:
            self._server.metrics.login(REFUSED)

    def end(self, reason: str, code: int = asyncssh.DISC_BY_APPLICATION) -> None:
        if self._conn is not None:
            self._conn.disconnect(code, reason)

    def abort(self) -> None:
        """End the connection of an unauthenticated client, without a message."""
        if self._conn is not None:
            self._conn.abort()

    async def begin_auth(self, username: str) -> bool:
        """Require a key of every user, so that unknown users look the same."""
        assert self._conn is not None, "there is a connection to log in by"
        keys = PartnerKeys(username, ())
        try:
            async with reading(self._server.ledger) as conn:
                keys = PartnerKeys(username, await ssh_keys.of_partner(conn, username))
        except LEDGER_FAILURES as error:
            _log.error("a login failed: the ledger can't be read: %s", type(error).__name__)
            # Not a refused key, after which clients and people look for a fault of their own.
            self.end(
                "the service can't log you in now: come again", asyncssh.DISC_SERVICE_NOT_AVAILABLE
            )
        self._keys = keys
        self._conn.set_authorized_keys(keys)
        return True

    def public_key_auth_supported(self) -> bool:
        """Allow public keys, the only method."""
        return True

    def auth_completed(self) -> None:
        assert self._conn is not None, "there was a connection to log in by"
        username: str = self._conn.get_extra_info("username")
        server = self._server
        server.startups.end(self)
        reason = server.too_many(username)
        if reason is not None:
            server.refusals.tell(username, "login", reason)
            server.metrics.login("turned_away")
            self.end(reason, asyncssh.DISC_TOO_MANY_CONNECTIONS)
            return
        key = self._keys.accepted
        assert key is not None, "keys alone log in"
        self.logged_in = _LoggedIn(username, key.fingerprint)
        server.metrics.login(ACCEPTED)
        server.note_use(key)
        _log.info("%r logged in with %s", *self.logged_in)
