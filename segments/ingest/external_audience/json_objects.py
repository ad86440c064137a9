"""
Streams JSON objects from a customer's file, out of arrays or lines.

Repeated names in an object are detected: the value that counts is unpredictable (RFC 8259, 4), and
may be a person's opt-out.
"""

import codecs
import json
from collections.abc import Iterator
from typing import Any

from segments.model.stop_reason import Stopped, StopReason

# Each member of a `.gz` may begin with a byte order mark.
_BLANKS_AND_MARKS = " \t\r\n\ufeff"


class NamedTwice(dict[str, Any]):
    """A JSON object with a repeated name; `names` has all of them."""

    names: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    twice = NamedTwice(value)
    twice.names = tuple(name for name, _ in pairs)
    return twice


_decoder = json.JSONDecoder(object_pairs_hook=_object)


def value_of(line: str) -> Any:
    """
    Return the JSON value of a line.

    Raises:
        ValueError, RecursionError: The line is no JSON.
    """
    return _decoder.decode(line)


def elements(blocks: Iterator[bytes], max_bytes: int) -> Iterator[list[Any]]:
    """
    Yield the elements of JSON arrays, of `max_bytes` at most: those that each block completes.

    Exports write a single array, or one for each line or each member of a `.gz`; an object between
    two arrays is an element, too. `blocks` begin with the first bracket.

    Raises:
        Stopped: UNREADABLE_FILE.
    """
    text, at = "", 0
    utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    is_in_array = False
    found: list[Any] = []
    while True:
        at = _behind_blanks(text, at)
        if at < len(text):
            if text[at] == ("]" if is_in_array else "["):
                at, is_in_array = at + 1, not is_in_array
                continue
            if text[at] == ",":
                at += 1
                continue
            try:
                value, end = _decoder.raw_decode(text, at)
            except (ValueError, RecursionError):
                end = None
            # A number at the end of the block may continue in the next.
            if end is not None and end < len(text):
                found.append(value)
                at = end
                continue
        yield found
        found = []
        if len(text) - at > max_bytes:
            raise Stopped(
                StopReason.UNREADABLE_FILE, "a JSON array with an element that can't be read"
            )
        block = next(blocks, None)
        if block is None:
            if at == len(text) and not is_in_array:
                return
            raise Stopped(
                StopReason.UNREADABLE_FILE, "a JSON array that is cut short, or can't be read"
            )
        text, at = text[at:] + utf8.decode(block), 0


def _behind_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS_AND_MARKS:
        at += 1
    return at
