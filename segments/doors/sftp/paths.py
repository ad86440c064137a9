"""
Paths of SFTP clients: `/` is the partner's folder, and files are directly below it.

Paths never reach the file system: they resolve to the folder or a name in it; all else is answered
"no such file".
"""

import posixpath

from asyncssh import SFTPNoSuchFile, SFTPPermissionDenied

from segments.doors.live_audience.file_names import ANSWER, Refused, check_name


def shortest(path: bytes) -> bytes:
    """Return a path normalized, from `/` on."""
    return posixpath.normpath(posixpath.join(b"/", path)).replace(b"//", b"/")


def is_folder(path: bytes) -> bool:
    """Tell whether a path is the folder itself."""
    return shortest(path) == b"/"


def name_of(path: bytes) -> str:
    """
    Return the valid file name that a path resolves to.

    Raises:
        SFTPNoSuchFile: The path leads below a subfolder.
        SFTPPermissionDenied: The name is invalid, or the path is the folder.
    """
    if is_folder(path):
        raise SFTPPermissionDenied("that is the folder")
    name = shortest(path)[1:]
    if b"/" in name:
        raise SFTPNoSuchFile("there are no folders here")
    try:
        return check_name(name.decode())
    except UnicodeDecodeError:
        raise SFTPPermissionDenied("the name is not UTF-8") from None
    except Refused as refused:
        raise SFTPPermissionDenied(str(refused)) from None


def check_new(name: str) -> None:
    """
    Refuse a name that is reserved for our answers.

    Raises:
        SFTPPermissionDenied: It is reserved.
    """
    if name.endswith(ANSWER):
        raise SFTPPermissionDenied(f"{ANSWER} files are ours to write")
