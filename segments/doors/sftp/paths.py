"""
What an SFTP client's paths mean: `/` is the partner's folder, and below it are names.

Paths never reach the file system. Whatever is spelled, it comes to the folder or to
one name in it, and everything else is answered "no such file".
"""

import posixpath

from asyncssh import SFTPNoSuchFile, SFTPPermissionDenied

from segments.doors.live_audience.file_names import ANSWER, Refused, check_name


def shortest(path: bytes) -> bytes:
    """Return a path in its shortest form, from `/` on."""
    return posixpath.normpath(posixpath.join(b"/", path)).replace(b"//", b"/")


def is_folder(path: bytes) -> bool:
    """Tell whether a path means the folder itself."""
    return shortest(path) == b"/"


def name_of(path: bytes) -> str:
    """
    Return the name that a path means, if a file may have it.

    Raises:
        SFTPNoSuchFile: It is a path to elsewhere.
        SFTPPermissionDenied: No file may have that name, or it is the folder's.
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
    Refuse a name that partners do not give to files.

    Raises:
        SFTPPermissionDenied: It is one.
    """
    if name.endswith(ANSWER):
        raise SFTPPermissionDenied(f"{ANSWER} files are ours to write")
