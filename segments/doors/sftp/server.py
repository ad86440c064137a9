"""
The SFTP door: what OpenSSH's `sftp` and its like talk to.

One flat folder a partner, and nothing beside it: no shell, no commands, no
forwarding, no scp, no subfolders, no links, nothing of the host (owners, free
space, other partners). The user name is the partner id; who is meant by it and
which keys it has stands in the ledger, and only a key opens the door.

This is the listener, and who gets in; what a client may do then is
`segments.doors.sftp.session`'s law.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

import asyncssh
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.folder import DropFolder
from segments.doors.sftp.host_key import host_key
from segments.doors.sftp.options import SftpOptions
from segments.doors.sftp.session import Session
from segments.doors.sftp_process_metrics import ACCEPTED, REFUSED, SftpProcessMetrics
from segments.ledger.database.engine import reading
from segments.ledger.live_audience import ssh_keys
from segments.runtime.admin_port import CannotListen

_log = logging.getLogger(__name__)

LOGIN_WITHIN_S = 30
KEEPALIVE_S = 15
_KEY_ENDED_EVERY_S = 5.0


class _LoggedIn(NamedTuple):
    partner_id: str
    fingerprint: str


class SftpServer:
    """The listener, and what all its sessions share."""

    def __init__(
        self,
        options: SftpOptions,
        ledger: AsyncEngine,
        folders: DropFolder,
        *,
        metrics: SftpProcessMetrics | None = None,
    ) -> None:
        self.options = options
        self.ledger = ledger
        self.metrics = metrics or SftpProcessMetrics()
        self._folders = folders
        self.connections: set[_Connection] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """
        Listen for as long as the context lasts; gives the port.

        Raises:
            CannotListen: The port is taken, or not ours to take.
        """
        options = self.options
        key = await asyncio.to_thread(host_key, options.key_dir / "host_key")
        try:
            listener = await asyncssh.create_server(
                lambda: _Connection(self),
                options.host,
                options.port,
                server_host_keys=[key],
                server_version="rtb-segments",
                config=None,  # nothing of this machine's own sshd
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
                compression_algs=["none"],  # the files are compressed, or should be
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

    def _session(self, chan: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        connection = cast("_Connection", chan.get_connection().get_owner())
        assert connection.logged_in is not None, "sessions come after the login"
        partner_id = connection.logged_in.partner_id
        sessions = sum(
            each.sessions
            for each in self.connections
            if each.logged_in is not None and each.logged_in.partner_id == partner_id
        )
        if sessions >= self.options.max_sessions_per_partner:
            raise asyncssh.DisconnectError(
                asyncssh.DISC_TOO_MANY_CONNECTIONS, "too many sessions of this partner"
            )
        folder = self._folders.of(partner_id)

        def ended() -> None:
            connection.sessions -= 1
            self.metrics.sessions.dec()

        connection.sessions += 1
        self.metrics.sessions.inc()
        return Session(chan, partner_id, folder, self.options, metrics=self.metrics, ended=ended)

    async def _end_removed_keys(self) -> None:
        """End the connections of keys that were removed and partners that were switched off."""
        while True:
            await asyncio.sleep(_KEY_ENDED_EVERY_S)
            for connection in list(self.connections):
                if connection.logged_in is None:
                    continue
                try:
                    async with reading(self.ledger) as conn:
                        still = await ssh_keys.authorized(conn, *connection.logged_in)
                except (OSError, SQLAlchemyError) as error:
                    _log.error("the ledger can't be read: %s", type(error).__name__)
                    break
                if still is None:
                    connection.end("the key is no longer one of the partner's")


class _Connection(asyncssh.SSHServer):
    """One client, from its first byte."""

    def __init__(self, server: SftpServer) -> None:
        self.logged_in: _LoggedIn | None = None
        self.sessions = 0
        self._username_to_fingerprint: dict[str, str] = {}
        self._server = server
        self._conn: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Note the client, or turn it away where there are too many."""
        self._conn = conn
        if len(self._server.connections) >= self._server.options.max_sessions:
            _log.warning("a client was turned away: SEGMENTS_SFTP_MAX_SESSIONS are connected")
            self._server.metrics.login("turned_away")
            conn.abort()
            return
        self._server.connections.add(self)
        self._server.metrics.connections.inc()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        if self not in self._server.connections:
            return  # it was turned away
        self._server.connections.remove(self)
        self._server.metrics.connections.dec()
        if self.logged_in is None:
            self._server.metrics.login(REFUSED)

    def end(self, reason: str) -> None:
        """End the connection, telling the client why."""
        if self._conn is not None:
            self._conn.disconnect(asyncssh.DISC_BY_APPLICATION, reason)

    def begin_auth(self, username: str) -> bool:
        """Ask everybody for a key, also those who do not exist."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Yes, and nothing else."""
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Tell whether a key opens a partner's folder."""
        fingerprint = key.get_fingerprint()
        try:
            async with reading(self._server.ledger) as conn:
                partner = await ssh_keys.authorized(conn, username, fingerprint)
        except (OSError, SQLAlchemyError) as error:
            _log.error("a login failed: the ledger can't be read: %s", type(error).__name__)
            return False
        if partner is None:
            return False
        # An offer, by a client that has yet to prove that the key is its own.
        self._username_to_fingerprint[username] = fingerprint
        return True

    def auth_completed(self) -> None:
        """Note who is in: the one name that was proved."""
        assert self._conn is not None, "there was a connection to log in by"
        username: str = self._conn.get_extra_info("username")
        self.logged_in = _LoggedIn(username, self._username_to_fingerprint[username])
        self._server.metrics.login(ACCEPTED)
        _log.info("%r logged in with %s", *self.logged_in)
