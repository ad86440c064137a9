"""
An open file of a session, and the writes that it allows.

A file opened for writing is marked from before its creation until it is closed. Another session's
opening ends the first's writes. Writes stop at the maximum file size and at the disk's reserve.

After a failed write the file keeps its mark, even if closed, until it is opened and written again.
Until then later writes fail, too: OpenSSH's `put` reports success if only the last write succeeds.
"""

import os

from asyncssh import (
    FXF_APPEND,
    FXF_CREAT,
    FXF_EXCL,
    FXF_READ,
    FXF_TRUNC,
    FXF_WRITE,
    SFTPFailure,
    SFTPNoSuchFile,
    SFTPPermissionDenied,
)

from segments.doors.live_audience.file_names import Refused
from segments.doors.live_audience.folder import Folder, Upload
from segments.files.disk import Disk

_ACCESS = {
    FXF_READ: os.O_RDONLY,
    FXF_WRITE: os.O_WRONLY,
    FXF_READ | FXF_WRITE: os.O_RDWR,
}


class OpenFile:
    """An open file."""

    def __init__(
        self,
        folder: Folder,
        fd: int,
        upload: Upload | None,
        *,
        appends: bool,
        max_bytes: int,
        disk: Disk,
    ) -> None:
        self.upload = upload  # `None`: opened for reading
        self.has_failed = False
        self._disk = disk
        self._folder = folder
        self._fd = fd
        self._appends = appends
        self._max_bytes = max_bytes

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer at the end of the file."""
        return os.pread(self._fd, size, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write all data; at the end of the file if it was opened for appending."""
        self._check_writable()
        if self._appends:
            offset = os.fstat(self._fd).st_size
        self._check_size(offset + len(data))
        if self.has_failed:
            raise SFTPFailure("a write of this file has failed: open it anew")
        try:
            self._disk.check_room(len(data))
            view = memoryview(data)
            while view:
                written = os.pwrite(self._fd, view, offset)
                view, offset = view[written:], offset + written
        except OSError:
            self.has_failed = True
            raise

    def cut(self, size_bytes: int) -> None:
        """Truncate or extend the file."""
        self._check_writable()
        self._check_size(size_bytes)
        os.ftruncate(self._fd, size_bytes)

    def sync(self) -> None:
        """Flush the file to disk."""
        os.fsync(self._fd)

    def stat(self) -> os.stat_result:
        """Return the file's stat."""
        return os.fstat(self._fd)

    def close(self) -> None:
        """Close the file; its mark, if any, stays."""
        os.close(self._fd)

    def _check_writable(self) -> None:
        if self.upload is None:
            raise SFTPPermissionDenied("the file was opened for reading")
        if not self._folder.is_current(self.upload):
            raise SFTPFailure("the file was opened or removed by another session")

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise SFTPFailure(f"larger than a file may be, {self._max_bytes} bytes")


def is_to_write(pflags: int) -> bool:
    """Tell whether a client opens for writing, by the flags of SFTP version 3."""
    return bool(pflags & FXF_WRITE)


def opened(folder: Folder, name: str, pflags: int, max_bytes: int, disk: Disk) -> OpenFile:
    """
    Open a file with a client's flags.

    `pflags` are of SFTP version 3; `max_bytes` bounds the file.

    Raises:
        asyncssh.SFTPError, OSError: It can't be opened so; nothing was marked.
    """
    flags = _ACCESS.get(pflags & (FXF_READ | FXF_WRITE), os.O_RDONLY)
    if not is_to_write(pflags):
        fd = folder.open_shown(name)
        return OpenFile(folder, fd, None, appends=False, max_bytes=max_bytes, disk=disk)
    disk.check_room()
    if pflags & FXF_CREAT:
        flags |= os.O_CREAT
    if pflags & FXF_EXCL:
        flags |= os.O_EXCL
    if pflags & FXF_TRUNC:
        flags |= os.O_TRUNC
    if not pflags & FXF_CREAT or pflags & FXF_EXCL:
        # Check before marking: a failed open must leave no mark.
        exists = folder.has(name)
        if exists and pflags & FXF_EXCL:
            raise SFTPFailure("there is a file of that name")
        if not exists and not pflags & FXF_CREAT:
            raise SFTPNoSuchFile("no such file")
    try:
        upload = folder.begin_upload(name)
    except Refused as refused:
        raise SFTPFailure(str(refused)) from None
    try:
        fd = folder.open(name, flags)
    except OSError:
        folder.finish_upload(upload)
        raise
    appends = bool(pflags & FXF_APPEND)
    return OpenFile(folder, fd, upload, appends=appends, max_bytes=max_bytes, disk=disk)
