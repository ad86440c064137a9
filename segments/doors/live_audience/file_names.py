"""
What files may be called, and what partners' folders are.

A name is one path segment that a listing shows as it is: nothing that moves a
terminal's cursor, nothing that leads elsewhere. One with a dot in front is temporary:
schedulers write to it, and rename it when it is whole; until then nobody takes it.
"""

from urllib.parse import quote

MAX_NAME_BYTES = 255
"""What every file system has room for."""

METADATA = ".json"
ANSWER = ".status"

MAX_ANSWERED_BYTES = MAX_NAME_BYTES - len(ANSWER)
"""`NAME` of `NAME.json`, so that `NAME.status` is a name as well."""

UNFINISHED = ".unfinished"
TAKEN = ".taken"
REFUSED = ".refused"
"""Folders of ours in a partner's folder."""


class Refused(Exception):
    """The partner may not do that; the message tells why, and names no file."""


def check_name(name: str) -> str:
    """
    Return a name if a file may have it.

    Raises:
        Refused: Empty, one of ours, too long, a path, or with characters that no
            listing shows as they are.
    """
    if name in ("", ".", "..", UNFINISHED, TAKEN, REFUSED):
        raise Refused("the name is one of the server's own")
    if "/" in name or "\\" in name:
        raise Refused("there are no folders here")
    if not name.isprintable():
        raise Refused("the name has characters that can't be printed")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise Refused(f"the name is longer than {MAX_NAME_BYTES} bytes")
    stem = answered_name(name)
    if stem is not None and len(stem.encode()) > MAX_ANSWERED_BYTES:
        raise Refused(
            f"the name has more than {MAX_ANSWERED_BYTES} bytes before {METADATA}: there is no"
            f" room for its {ANSWER}"
        )
    return name


def answered_name(file_name: str) -> str | None:
    """Return what a metadata file's answer is named after, `None` if it is none."""
    stem, suffix = file_name[: -len(METADATA)], file_name[-len(METADATA) :]
    is_metadata = suffix.lower() == METADATA and stem and not is_temporary(file_name)
    return stem if is_metadata else None


def is_temporary(name: str) -> bool:
    """Tell whether a file has yet to get its name."""
    return name.startswith(".")


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
