"""
The SFTP door: what OpenSSH's `sftp` and its like talk to.

One flat folder a partner, and nothing beside it: no shell, no commands, no
forwarding, no scp, no subfolders, no links, nothing of the host (owners, free
space, other partners). The user name is the partner id; who is meant by it and
which keys it has stands in the ledger, and only a key opens the door.

Paths never reach the file system: a path is `/` or one name, and everything
else is answered "no such file". What may be done with a name is
`segments.doors.folder`'s law.
"""

import asyncio
import logging
import os
import posixpath
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, cast
from weakref import WeakSet

import asyncssh
from asyncssh import (
    FXF_APPEND,
    FXF_CREAT,
    FXF_EXCL,
    FXF_READ,
    FXF_TRUNC,
    FXF_WRITE,
    SFTPAttrs,
    SFTPFailure,
    SFTPName,
    SFTPNoSuchFile,
    SFTPOpUnsupported,
    SFTPPermissionDenied,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.folder import ANSWER, DropFolder, Folder, Refused, Upload, check_name
from segments.ledger import ssh_keys
from segments.ledger.engine import reading
from segments.settings import Settings

_log = logging.getLogger(__name__)

LOGIN_WITHIN_S = 30
KEEPALIVE_S = 15
_KEY_ENDED_EVERY_S = 5.0
_DRAIN_S = 5.0

_MODE_TO_FLAGS = {
    FXF_READ: os.O_RDONLY,
    FXF_WRITE: os.O_WRONLY,
    FXF_READ | FXF_WRITE: os.O_RDWR,
}


class CannotListen(Exception):
    """The port can't be had; the message tells the operator why."""


def host_key(path: Path) -> asyncssh.SSHKey:
    """
    Return the server's own key, which is made once and kept.

    Clients remember it: another one would look to them like somebody between.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = asyncssh.generate_private_key("ssh-ed25519", comment="rtb-segments sftp")
        mine = path.with_name(f"{path.name}.{os.getpid()}")
        fd = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(made.export_private_key())
            file.flush()
            os.fsync(fd)
        try:
            # Of two processes that begin at once, the first one's is kept.
            os.link(mine, path)
        except FileExistsError:
            pass
        finally:
            mine.unlink()
    return asyncssh.read_private_key(path)


class _LoggedIn(NamedTuple):
    partner_id: str
    fingerprint: str


class SftpServer:
    """The listener, and what all its sessions share."""

    def __init__(self, settings: Settings, ledger: AsyncEngine, folders: DropFolder) -> None:
        self.settings = settings
        self.ledger = ledger
        self.folders = folders
        self.connections: set[_Connection] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """
        Listen for as long as the context lasts; gives the port.

        Raises:
            CannotListen: The port is taken, or not ours to take.
        """
        settings = self.settings
        key = await asyncio.to_thread(host_key, settings.data_dir / "sftp" / "host_key")
        try:
            listener = await asyncssh.create_server(
                lambda: _Connection(self),
                settings.sftp_host,
                settings.sftp_port,
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
            raise CannotListen(
                f"SEGMENTS_SFTP_PORT={settings.sftp_port}: {os.strerror(error.errno or 0)}"
            ) from None
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
        if sessions >= self.settings.sftp_max_sessions_per_partner:
            raise asyncssh.DisconnectError(
                asyncssh.DISC_TOO_MANY_CONNECTIONS, "too many sessions of this partner"
            )
        return _Session(chan, self, connection)

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
        if len(self._server.connections) >= self._server.settings.sftp_max_sessions:
            _log.warning("a client was turned away: SEGMENTS_SFTP_MAX_SESSIONS are connected")
            conn.abort()
            return
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._server.connections.discard(self)

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
        _log.info("%r logged in with %s", *self.logged_in)


class _Handle:
    """One open file."""

    def __init__(self, name: str, fd: int, upload: Upload | None, *, appends: bool) -> None:
        self.name = name
        self.fd = fd
        self.upload = upload  # none: opened for reading
        self.appends = appends


class _Session(asyncssh.SFTPServer):
    """
    One partner's session, in SFTP version 3, as OpenSSH speaks it.

    asyncssh calls `close` for a file that the client closes, and also for each
    that is still open when the connection ends; then it calls `exit`, in the
    same turn of the event loop. So a file counts as closed by its client only a
    turn later, when no `exit` has come.
    """

    def __init__(
        self,
        chan: asyncssh.SSHServerChannel[bytes],
        server: SftpServer,
        connection: _Connection,
    ) -> None:
        super().__init__(chan)
        assert connection.logged_in is not None, "sessions come after the login"
        self._connection = connection
        self._partner_id = connection.logged_in.partner_id
        self._folder: Folder = server.folders.of(self._partner_id)
        self._max_bytes = server.settings.sftp_max_file_bytes
        self._max_handles = server.settings.sftp_max_handles
        self._handles: set[_Handle] = set()
        self._listings: WeakSet[AsyncIterator[SFTPName]] = WeakSet()
        self._closed: list[_Handle] = []
        connection.sessions += 1

    # -- files -----------------------------------------------------------------

    def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> _Handle:
        """Open a file; one opened for writing bears a mark until it is closed."""
        if len(self._handles) >= self._max_handles:
            raise SFTPFailure(f"more than {self._max_handles} open files")
        name = self._existing(path)
        flags = _MODE_TO_FLAGS.get(pflags & (FXF_READ | FXF_WRITE), os.O_RDONLY)
        if flags == os.O_RDONLY:
            handle = _Handle(name, self._folder.open(name, flags), None, appends=False)
        else:
            handle = self._open_to_write(name, flags, pflags)
        self._handles.add(handle)
        return handle

    def _open_to_write(self, name: str, flags: int, pflags: int) -> _Handle:
        self._check_new(name)
        if pflags & FXF_CREAT:
            flags |= os.O_CREAT
        if pflags & FXF_EXCL:
            flags |= os.O_EXCL
        if pflags & FXF_TRUNC:
            flags |= os.O_TRUNC
        if not pflags & FXF_CREAT or pflags & FXF_EXCL:
            # What fails below must not have marked anything.
            exists = self._folder.has(name)
            if exists and pflags & FXF_EXCL:
                raise SFTPFailure("there is a file of that name")
            if not exists and not pflags & FXF_CREAT:
                raise SFTPNoSuchFile("no such file")
        try:
            upload = self._folder.begin_upload(name)
        except Refused as refused:
            raise SFTPFailure(str(refused)) from None
        try:
            fd = self._folder.open(name, flags)
        except OSError:
            self._folder.finish_upload(upload)
            raise
        return _Handle(name, fd, upload, appends=bool(pflags & FXF_APPEND))

    def open56(self, path: bytes, desired_access: int, flags: int, attrs: SFTPAttrs) -> object:
        """Refuse what only later versions of the protocol ask for."""
        raise SFTPOpUnsupported("version 3 is spoken here")

    def close(self, file_obj: object) -> None:
        """Close a file; see the class for when its mark goes."""
        handle = cast("_Handle", file_obj)
        self._handles.discard(handle)
        os.close(handle.fd)
        if handle.upload is not None:
            self._closed.append(handle)
            asyncio.get_running_loop().call_soon(self._finish, handle)

    def _finish(self, handle: _Handle) -> None:
        if handle in self._closed:
            self._closed.remove(handle)
            assert handle.upload is not None, "only uploads are finished"
            self._folder.finish_upload(handle.upload)

    def exit(self) -> None:
        """Note what the client left open: it may resume that, or never come back."""
        for handle in self._closed:
            assert handle.upload is not None, "only uploads are finished"
            self._folder.break_upload(handle.upload)
        if self._closed:
            _log.info("%r left %d uploads unfinished", self._partner_id, len(self._closed))
        self._closed.clear()
        self._connection.sessions -= 1

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read from an open file."""
        return os.pread(cast("_Handle", file_obj).fd, size, offset)

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write to an open file, within the largest size that one may have."""
        handle = cast("_Handle", file_obj)
        self._check_writable(handle)
        if handle.appends:
            offset = os.fstat(handle.fd).st_size
        self._check_size(offset + len(data))
        view = memoryview(data)
        while view:
            written = os.pwrite(handle.fd, view, offset)
            view, offset = view[written:], offset + written
        return len(data)

    def fsync(self, file_obj: object) -> None:
        """Wait until the disk has an open file."""
        os.fsync(cast("_Handle", file_obj).fd)

    # -- what is there -----------------------------------------------------------

    def stat(self, path: bytes) -> SFTPAttrs:
        """Describe a file or the folder."""
        name = self._name(path)
        if name is None:
            return _FOLDER
        return _attrs(self._folder.stat(self._existing(path)))

    def lstat(self, path: bytes) -> SFTPAttrs:
        """Describe a file or the folder; there are no links."""
        return self.stat(path)

    def fstat(self, file_obj: object) -> SFTPAttrs:
        """Describe an open file."""
        return _attrs(os.fstat(cast("_Handle", file_obj).fd))

    def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Take no notice: times, owners and modes are not kept. A size can't be set so."""
        self._existing(path)
        if attrs.size is not None:
            raise SFTPOpUnsupported("open the file to change its size")

    def lsetstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Do as for `setstat`."""
        self.setstat(path, attrs)

    def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        """Cut an open file to a size; take no notice of all else."""
        if attrs.size is not None:
            handle = cast("_Handle", file_obj)
            self._check_writable(handle)
            self._check_size(attrs.size)
            os.ftruncate(handle.fd, attrs.size)

    def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        """List the folder."""
        if self._name(path) is not None:
            raise SFTPNoSuchFile("no such folder")
        if len(self._listings) >= self._max_handles:
            raise SFTPFailure(f"more than {self._max_handles} open listings")
        listing = self._listing()
        self._listings.add(listing)
        return listing

    async def _listing(self) -> AsyncIterator[SFTPName]:
        for dots in (b".", b".."):
            yield SFTPName(dots, attrs=_FOLDER)
        for name in self._folder.names():
            try:
                found = self._folder.stat(name)
            except FileNotFoundError:
                continue
            yield SFTPName(name.encode(), attrs=_attrs(found))

    def realpath(self, path: bytes) -> bytes:
        """Return a path in its shortest form."""
        return posixpath.normpath(posixpath.join(b"/", path)).replace(b"//", b"/")

    def format_user(self, uid: int | None) -> str:
        """Name the owner of a file: not a user of this machine."""
        return "partner"

    def format_group(self, gid: int | None) -> str:
        """Name the group of a file: not one of this machine."""
        return "partner"

    # -- names -------------------------------------------------------------------

    def remove(self, path: bytes) -> None:
        """Remove a file."""
        self._folder.remove(self._existing(path))

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file, to a name that is free."""
        self._rename(oldpath, newpath, replace=False)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file, over another if need be."""
        self._rename(oldpath, newpath, replace=True)

    def _rename(self, oldpath: bytes, newpath: bytes, *, replace: bool) -> None:
        old, new = self._existing(oldpath), self._existing(newpath)
        self._check_new(new)
        try:
            self._folder.rename(old, new, replace=replace)
        except Refused as refused:
            raise SFTPFailure(str(refused)) from None

    def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Refuse: there is one folder."""
        raise SFTPPermissionDenied("there are no folders here")

    def rmdir(self, path: bytes) -> None:
        """Refuse: there is one folder."""
        raise SFTPPermissionDenied("there are no folders here")

    def readlink(self, path: bytes) -> bytes:
        """Refuse: there are no links."""
        raise SFTPPermissionDenied("there are no links here")

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Refuse: there are no links."""
        raise SFTPPermissionDenied("there are no links here")

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        """Refuse: there are no links."""
        raise SFTPPermissionDenied("there are no links here")

    def statvfs(self, path: bytes) -> os.statvfs_result:
        """Refuse: how large our disk is concerns nobody."""
        raise SFTPOpUnsupported("not told")

    def fstatvfs(self, file_obj: object) -> os.statvfs_result:
        """Refuse likewise."""
        raise SFTPOpUnsupported("not told")

    # ----------------------------------------------------------------------------

    def _name(self, path: bytes) -> bytes | None:
        """Return the one name of a path, `None` of the folder itself."""
        return self.realpath(path)[1:] or None

    def _existing(self, path: bytes) -> str:
        """
        Return the name that a path means, if a file may have it.

        Raises:
            SFTPNoSuchFile: It is a path to elsewhere.
            SFTPPermissionDenied: No file may have that name, or it is the folder's.
        """
        name = self._name(path)
        if name is None:
            raise SFTPPermissionDenied("that is the folder")
        if b"/" in name:
            raise SFTPNoSuchFile("there are no folders here")
        try:
            return check_name(name.decode())
        except UnicodeDecodeError:
            raise SFTPPermissionDenied("the name is not UTF-8") from None
        except Refused as refused:
            raise SFTPPermissionDenied(str(refused)) from None

    def _check_new(self, name: str) -> None:
        if name.endswith(ANSWER):
            raise SFTPPermissionDenied(f"{ANSWER} files are ours to write")

    def _check_writable(self, handle: _Handle) -> None:
        if handle.upload is None:
            raise SFTPPermissionDenied("the file was opened for reading")
        if not self._folder.is_current(handle.upload):
            raise SFTPFailure("the file was opened or removed by another session")

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise SFTPFailure(f"larger than a file may be, {self._max_bytes} bytes")


_FOLDER = SFTPAttrs(
    permissions=stat.S_IFDIR | 0o700, size=0, uid=0, gid=0, atime=0, mtime=0, nlink=1
)


def _attrs(found: os.stat_result) -> SFTPAttrs:
    """Describe a regular file without its owner on this machine."""
    return SFTPAttrs(
        permissions=stat.S_IFREG | 0o600,
        size=found.st_size,
        uid=0,
        gid=0,
        atime=int(found.st_atime),
        mtime=int(found.st_mtime),
        nlink=1,
    )
