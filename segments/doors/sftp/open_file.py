"""
One file that a session holds open: how it is opened, and what may be written to it.

One opened for writing bears its mark from before it exists until it is closed;
whoever opens it anew takes it away from the one before. Nothing is written
beyond the size that a file may have.
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

_ACCESS = {
    FXF_READ: os.O_RDONLY,
    FXF_WRITE: os.O_WRONLY,
    FXF_READ | FXF_WRITE: os.O_RDWR,
}


class OpenFile:
    """One open file."""

    def __init__(
        self, folder: Folder, fd: int, upload: Upload | None, *, appends: bool, max_bytes: int
    ) -> None:
        self.upload = upload  # none: opened for reading
        self._folder = folder
        self._fd = fd
        self._appends = appends
        self._max_bytes = max_bytes

    def read(self, offset: int, size: int) -> bytes:
        """Return what stands there; less at the end of the file."""
        return os.pread(self._fd, size, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write all of it, at the end if the file was opened so."""
        self._check_writable()
        if self._appends:
            offset = os.fstat(self._fd).st_size
        self._check_size(offset + len(data))
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, offset)
            view, offset = view[written:], offset + written

    def cut(self, size_bytes: int) -> None:
        """Give the file another size."""
        self._check_writable()
        self._check_size(size_bytes)
        os.ftruncate(self._fd, size_bytes)

    def sync(self) -> None:
        """Wait until the disk has it."""
        os.fsync(self._fd)

    def stat(self) -> os.stat_result:
        """Return the file's stat."""
        return os.fstat(self._fd)

    def close(self) -> None:
        """Close it; its mark, if it has one, stays."""
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
    """Tell whether a client means to write, by the flags of SFTP version 3."""
    return bool(pflags & FXF_WRITE)


def opened(folder: Folder, name: str, pflags: int, max_bytes: int) -> OpenFile:
    """
    Open a file as a client asks for it.

    Args:
        folder: The partner's.
        name: A name that the file may have.
        pflags: Of SFTP version 3.
        max_bytes: How large it may become.

    Raises:
        asyncssh.SFTPError, OSError: It can't be had so; nothing was marked.
    """
    flags = _ACCESS.get(pflags & (FXF_READ | FXF_WRITE), os.O_RDONLY)
    if not is_to_write(pflags):
        fd = folder.open_shown(name)
        return OpenFile(folder, fd, None, appends=False, max_bytes=max_bytes)
    if pflags & FXF_CREAT:
        flags |= os.O_CREAT
    if pflags & FXF_EXCL:
        flags |= os.O_EXCL
    if pflags & FXF_TRUNC:
        flags |= os.O_TRUNC
    if not pflags & FXF_CREAT or pflags & FXF_EXCL:
        # What fails below must not have marked anything.
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
    return OpenFile(folder, fd, upload, appends=bool(pflags & FXF_APPEND), max_bytes=max_bytes)
