"""
A partner's SFTP session: its requests and their answers.

There are no subfolders, no links, and nothing of the host (owners, modes, free space) or of other
partners. `segments.doors.live_audience.folder` rules what may be done with a file.
"""

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakSet

import asyncssh
from asyncssh import (
    SFTPAttrs,
    SFTPError,
    SFTPFailure,
    SFTPName,
    SFTPNoSuchFile,
    SFTPOpUnsupported,
    SFTPPermissionDenied,
)

from segments.doors.live_audience.file_names import Refused
from segments.doors.live_audience.folder import Folder, Upload
from segments.doors.live_audience.metrics import DeliveryMetrics
from segments.doors.sftp.metrics import OK, REFUSED, SftpMetrics
from segments.doors.sftp.open_file import OpenFile, is_to_write, opened
from segments.doors.sftp.options import SftpOptions
from segments.doors.sftp.paths import check_new, is_folder, name_of, shortest
from segments.doors.sftp.refusal_log import RefusalLog
from segments.files.disk import Disk
from segments.runtime.causes import is_of_the_machine, of_os_error

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def _counted(
    operation: str, *, only_refusals: bool = False
) -> "Callable[[Callable[Concatenate[Session, P], R]], Callable[Concatenate[Session, P], R]]":

    def decorate(
        method: "Callable[Concatenate[Session, P], R]",
    ) -> "Callable[Concatenate[Session, P], R]":
        @wraps(method)
        def counting(self: "Session", /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                result = method(self, *args, **kwargs)
            except (SFTPError, OSError) as error:
                self.metrics.request(operation, REFUSED)
                self.tell(operation, error)
                if isinstance(error, OSError) and is_of_the_machine(error):
                    # Version 3 has no codes for these; at best a client shows the message.
                    raise SFTPFailure(f"the folder {of_os_error(error).words}") from None
                raise
            if not only_refusals:
                self.metrics.request(operation, OK)
            return result

        return counting

    return decorate


class Session(asyncssh.SFTPServer):
    """
    A partner's session, in SFTP version 3, as OpenSSH speaks it.

    asyncssh calls `close` for each file that the client closes, but also for each still open when
    the connection ends, with `exit` in the same iteration of the event loop. So only a `close`
    without an `exit` until the next iteration is the client's.
    """

    def __init__(
        self,
        chan: asyncssh.SSHServerChannel[bytes],
        partner_id: str,
        folder: Folder,
        options: SftpOptions,
        *,
        metrics: SftpMetrics,
        deliveries: DeliveryMetrics,
        refusals: RefusalLog,
        over_quota: Callable[[], Awaitable[str]],
        ended: Callable[[], None],
    ) -> None:
        """
        `over_quota` returns why the partner is over quota, or nothing; `ended` is called at the
        session's end.
        """
        super().__init__(chan)
        self.metrics = metrics
        self._deliveries = deliveries
        self._refusals = refusals
        self._partner_id = partner_id
        self._folder = folder
        self._max_bytes = options.max_file_bytes
        self._max_handles = options.max_handles
        self._disk = Disk(folder.path, options.reserve_bytes)
        self._over_quota = over_quota
        self._ended = ended
        self._handles: set[OpenFile] = set()
        self._listings: WeakSet[AsyncIterator[SFTPName]] = WeakSet()
        self._closed: list[Upload] = []

    # -- files -----------------------------------------------------------------

    async def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> OpenFile:
        """Open a file; a file opened for writing is marked until it is closed."""
        return self._open(path, pflags, await self._over_quota() if is_to_write(pflags) else "")

    @_counted("open")
    def _open(self, path: bytes, pflags: int, over_quota: str) -> OpenFile:
        if over_quota:
            raise SFTPFailure(over_quota)
        if len(self._handles) >= self._max_handles:
            raise SFTPFailure(f"more than {self._max_handles} open files")
        name = name_of(path)
        if is_to_write(pflags):
            check_new(name)
        file = opened(self._folder, name, pflags, self._max_bytes, self._disk)
        self._handles.add(file)
        return file

    def open56(self, path: bytes, desired_access: int, flags: int, attrs: SFTPAttrs) -> object:
        """Refuse requests of later protocol versions."""
        raise SFTPOpUnsupported("version 3 is spoken here")

    def close(self, file_obj: object) -> None:
        """Close a file; the class docstring says when its mark is removed."""
        file = cast("OpenFile", file_obj)
        self._handles.discard(file)
        file.close()
        if file.upload is not None and file.has_failed:
            self._folder.break_upload(file.upload)
            self._deliveries.upload("broken_off")
        elif file.upload is not None:
            self._closed.append(file.upload)
            asyncio.get_running_loop().call_soon(self._finish, file.upload)

    def _finish(self, upload: Upload) -> None:
        if upload in self._closed:
            self._closed.remove(upload)
            self._folder.finish_upload(upload)
            self._deliveries.upload("finished")

    def exit(self) -> None:
        """Mark files left open by the client as broken off; it may resume them."""
        for upload in self._closed:
            self._folder.break_upload(upload)
            self._deliveries.upload("broken_off")
        if self._closed:
            _log.info("%r left %d uploads unfinished", self._partner_id, len(self._closed))
        self._closed.clear()
        # RFC 4254, 6.10: a server should return an exit status; `scp` passes it on.
        self.channel.exit(0)
        self._ended()

    def tell(self, operation: str, error: SFTPError | OSError) -> None:
        """Log a refused request; a missing file is no refusal."""
        if isinstance(error, SFTPError):
            if isinstance(error, SFTPPermissionDenied | SFTPFailure):
                self._refusals.tell(self._partner_id, operation, error.reason)
        elif is_of_the_machine(error):
            why = of_os_error(error).of("the drop folder")
            self._refusals.tell(self._partner_id, operation, why)

    @_counted("read", only_refusals=True)
    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read from an open file."""
        data = cast("OpenFile", file_obj).read(offset, size)
        self.metrics.sent_bytes.inc(len(data))
        return data

    @_counted("write", only_refusals=True)
    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write to an open file, up to the maximum file size."""
        cast("OpenFile", file_obj).write(offset, data)
        self.metrics.received_bytes.inc(len(data))
        return len(data)

    def fsync(self, file_obj: object) -> None:
        """Flush an open file to disk."""
        cast("OpenFile", file_obj).sync()

    # -- attributes and listings -------------------------------------------------

    @_counted("stat")
    def stat(self, path: bytes) -> SFTPAttrs:
        """Return the attributes of a file or the folder."""
        if is_folder(path):
            return _FOLDER
        return _attrs(self._folder.shown_stat(name_of(path)))

    def lstat(self, path: bytes) -> SFTPAttrs:
        """Return the attributes of a file or the folder; there are no links."""
        return self.stat(path)

    def fstat(self, file_obj: object) -> SFTPAttrs:
        """Return the attributes of an open file."""
        return _attrs(cast("OpenFile", file_obj).stat())

    def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Refuse a size; ignore times, owners and modes, which are not kept."""
        name_of(path)
        if attrs.size is not None:
            raise SFTPOpUnsupported("open the file to change its size")

    def lsetstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """See `setstat`."""
        self.setstat(path, attrs)

    def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        """Set the size of an open file; ignore everything else."""
        if attrs.size is not None:
            cast("OpenFile", file_obj).cut(attrs.size)

    @_counted("list")
    def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        """List the folder."""
        if not is_folder(path):
            raise SFTPNoSuchFile("no such folder")
        if len(self._listings) >= self._max_handles:
            raise SFTPFailure(f"more than {self._max_handles} open listings")
        listing = self._listing()
        self._listings.add(listing)
        return listing

    async def _listing(self) -> AsyncIterator[SFTPName]:
        for dots in (b".", b".."):
            yield SFTPName(dots, attrs=_FOLDER)
        for name in self._folder.shown():
            try:
                found = self._folder.stat(name)
            except FileNotFoundError:
                continue
            yield SFTPName(name.encode(), attrs=_attrs(found))

    def realpath(self, path: bytes) -> bytes:
        """Return a path normalized."""
        return shortest(path)

    def format_user(self, uid: int | None) -> str:
        """Return the same owner for every file, no user of this machine."""
        return "partner"

    def format_group(self, gid: int | None) -> str:
        """See `format_user`."""
        return "partner"

    # -- removal and renaming ----------------------------------------------------

    @_counted("remove")
    def remove(self, path: bytes) -> None:
        """Remove a file."""
        self._folder.remove(name_of(path))

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file to an unused name."""
        self._rename(oldpath, newpath, replace=False)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file, and replace any file of that name."""
        self._rename(oldpath, newpath, replace=True)

    @_counted("rename")
    def _rename(self, oldpath: bytes, newpath: bytes, *, replace: bool) -> None:
        old, new = name_of(oldpath), name_of(newpath)
        check_new(new)
        try:
            self._folder.rename(old, new, replace=replace)
        except Refused as refused:
            raise SFTPFailure(str(refused)) from None
        except FileExistsError:
            raise SFTPFailure("there is a file of the new name already: remove it first") from None

    def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Refuse; clients that create a whole path learn that the folder exists."""
        if is_folder(path):
            raise SFTPFailure("this folder is there already")
        raise SFTPPermissionDenied("there are no folders here")

    def rmdir(self, path: bytes) -> None:
        """Refuse: there are no subfolders."""
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
        """Refuse: the size of our disk is confidential."""
        raise SFTPOpUnsupported("not told")

    def fstatvfs(self, file_obj: object) -> os.statvfs_result:
        """See `statvfs`."""
        raise SFTPOpUnsupported("not told")


_FOLDER = SFTPAttrs(
    permissions=stat.S_IFDIR | 0o700, size=0, uid=0, gid=0, atime=0, mtime=0, nlink=1
)


def _attrs(found: os.stat_result) -> SFTPAttrs:
    return SFTPAttrs(
        permissions=stat.S_IFREG | 0o600,
        size=found.st_size,
        uid=0,
        gid=0,
        atime=int(found.st_atime),
        mtime=int(found.st_mtime),
        nlink=1,
    )
