"""
The names of files and of partners' folders.

A name is a single path segment without control characters. A leading dot marks a temporary file,
which is not taken: schedulers write under such a name, and rename the complete file.
"""

from urllib.parse import quote

MAX_NAME_BYTES = 255
"""The limit of common file systems."""

METADATA = ".json"
ANSWER = ".status"

MAX_ANSWERED_BYTES = MAX_NAME_BYTES - len(ANSWER)
"""The longest `NAME` in `NAME.json`, so that `NAME.status` is valid too."""

UNFINISHED = ".unfinished"
TAKEN = ".taken"
REFUSED = ".refused"
"""Our own folders inside a partner's folder."""


class Refused(Exception):
    """The partner may not do this; the message says why, and names no file."""


def check_name(name: str) -> str:
    """
    Return a name if a file may have it.

    Raises:
        Refused: Empty, reserved, too long, a path, or not printable.
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
    """Return a metadata file's name in answers; `None` for other files."""
    stem, suffix = file_name[: -len(METADATA)], file_name[-len(METADATA) :]
    is_metadata = suffix.lower() == METADATA and stem and not is_temporary(file_name)
    return stem if is_metadata else None


def is_temporary(name: str) -> bool:
    """Tell whether a file still has a temporary name."""
    return name.startswith(".")


def folder_name(partner_id: str) -> str:
    """
    Return a partner's folder: the partner id, escaped for a path.

    All but letters, digits and `_.-~`, and a leading dot, becomes `%` and two hex digits.
    """
    name = quote(partner_id, safe="")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def is_usable(name: str) -> bool:
    """Tell whether `check_name` accepts a name."""
    try:
        check_name(name)
    except (Refused, UnicodeEncodeError):
        return False
    return True
