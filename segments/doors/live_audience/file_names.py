"""
What files may be called, and what partners' folders are.

A name is one path segment that a listing shows as it is: nothing hidden,
nothing that moves a terminal's cursor, nothing that leads elsewhere.
"""

from urllib.parse import quote

MAX_NAME_BYTES = 200
"""Leaves room for `.status` and for our own copies within the 255 of every file system."""


class Refused(Exception):
    """The partner may not do that; the message tells why, and names no file."""


def check_name(name: str) -> str:
    """
    Return a name if a file may have it.

    Raises:
        Refused: Empty, hidden, too long, a path, or with characters that no
            listing shows as they are.
    """
    if not name or name.startswith("."):
        raise Refused("names that begin with a dot are not allowed")
    if "/" in name or "\\" in name:
        raise Refused("there are no folders here")
    if not name.isprintable():
        raise Refused("the name has characters that can't be printed")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise Refused(f"the name is longer than {MAX_NAME_BYTES} bytes")
    return name


def folder_name(partner_id: str) -> str:
    """
    Return what a partner's folder is called: the partner id, as far as a path allows.

    Anything but letters, digits and `_.-~` becomes `%` and two hex digits, as
    in a URL, and so does a dot in front.
    """
    name = quote(partner_id, safe="")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def is_usable(name: str) -> bool:
    """Tell whether a file may have that name."""
    try:
        check_name(name)
    except (Refused, UnicodeEncodeError):
        return False
    return True
