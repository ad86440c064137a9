"""
Pages of lists: a limit, and a cursor to the next page.

A cursor is the encoded sort key of a page's last row, opaque to clients, so that new rows neither
repeat a row nor skip one.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from segments.model.refusal import Refusal

Row = TypeVar("Row")

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_CURSOR_CHARS = 400


class Page(NamedTuple, Generic[Row]):
    """A page of a list."""

    rows: Sequence[Row]
    next_cursor: str | None = None  # `None`: the last page


def page_of(listed: str, found: Sequence[Row], keys: Sequence[object], limit: int) -> Page[Row]:
    """
    Cut a page from rows.

    `listed` names the list, so that no other takes its cursor; `found` has up to `limit` + 1 rows,
    in order, `keys` their sort keys.
    """
    if len(found) <= limit:
        return Page(found)
    return Page(found[:limit], _cursor(listed, keys[limit - 1]))


def number_after(listed: str, cursor: str | None) -> int | None:
    """
    Return the number after which a page begins; `None` for the first page.

    Raises:
        Refusal: This is no cursor of the list.
    """
    key = text_after(listed, cursor)
    if key is None:
        return None
    if not (key.isascii() and key.isdecimal() and len(key) <= 18):
        raise _not_a_cursor()
    return int(key)


def text_after(listed: str, cursor: str | None) -> str | None:
    """
    Return the text after which a page begins; `None` for the first page.

    Raises:
        Refusal: This is no cursor of the list.
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        name, colon, key = raw.decode().partition(":")
    except (binascii.Error, ValueError):
        raise _not_a_cursor() from None
    if name != listed or not colon or len(cursor) > MAX_CURSOR_CHARS or "\x00" in key:
        raise _not_a_cursor()
    return key


def _cursor(listed: str, key: object) -> str:
    return base64.urlsafe_b64encode(f"{listed}:{key}".encode()).decode().rstrip("=")


def _not_a_cursor() -> Refusal:
    return Refusal("cursor: not from the page before; begin without one")
