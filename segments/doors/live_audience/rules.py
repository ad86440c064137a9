"""
LiveAudience's rules: how files pair up, and the limits of metadata.

"Data files of email hashes `<filename>` and metadata describing segments for
the email addresses `<filename>.json` are uploaded via SFTP" ("Basic
Workflow"). "The metadata file should have the same name as the data file as a
best practice, but is not mandatory" ("SFTP File Transfers"): so only `file.name` in the
metadata makes the pair. The answer, `<filename>.status`, is named after the metadata file.

This module reads neither files nor the clock.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import orjson

from segments.doors.live_audience.metadata import Metadata, in_utf_8, read_metadata
from segments.model.stop_reason import Stopped, StopReason

DOOR = "sftp"

MAX_URL_CHARS = 2048

_PACKED = (".gz", ".zip")
_SUFFIXES = (*_PACKED, ".txt", ".csv")
_OF_THE_SAMPLE = ">"


class Said(NamedTuple):
    """A metadata file, as far as it is readable."""

    metadata: Metadata | None  # `None`: not a valid metadata file
    refused: Stopped | None  # `None`: valid, as far as the file alone can tell


def data_files(said: str, names: Iterable[str]) -> list[str]:
    """
    Return the names that may be a metadata file's data file, the likeliest first.

    `file.name` is "`<digest_value>.txt`" even of a file that was "compressed in either .GZ or
    .ZIP format", so `a.txt` may come as `a.txt.gz` or `a.gz`, in any case. The document's own
    sample ends in `>`, which is dropped.

    `said` is `file.name`; `names` are the files in the folder.
    """
    name = said.removesuffix(_OF_THE_SAMPLE)
    stem, dot, _ = name.rpartition(".")
    stems = (name, stem) if dot and stem else (name,)
    wanted = [name, *(f"{each}{suffix}" for each in stems for suffix in _PACKED)]
    ranks = {_with_plain_suffix(each): rank for rank, each in reversed(list(enumerate(wanted)))}
    found = [each for each in (*names,) if _with_plain_suffix(each) in ranks]
    return sorted(found, key=lambda each: (each != name, ranks[_with_plain_suffix(each)], each))


def said_name(raw: bytes, name: str) -> str:
    """
    Return the data file's name in a refused metadata file.

    Without a readable name there, `name`, its own without `.json`.
    """
    with suppress(orjson.JSONDecodeError, TypeError, KeyError):
        said = orjson.loads(in_utf_8(raw))["file"]["name"]
        if isinstance(said, str) and said.strip():
            return said.strip()
    return name


def _with_plain_suffix(name: str) -> str:
    parts = name.split(".")
    first = len(parts)
    while first > 1 and f".{parts[first - 1].lower()}" in _SUFFIXES:
        first -= 1
    return ".".join([*parts[:first], *map(str.lower, parts[first:])])


def read(raw: bytes, partner_id: str) -> Said:
    """
    Read a metadata file from a partner's folder.

    Any other `partner_id` is invalid, whether or not such a partner exists.
    """
    try:
        metadata = read_metadata(raw)
        _check_callback(metadata.callback_url)
    except Stopped as stopped:
        return Said(None, stopped)
    if metadata.partner_id != partner_id:
        return Said(
            metadata,
            Stopped(StopReason.UNKNOWN_PARTNER, "partner_id: not the one whose folder this is"),
        )
    return Said(metadata, None)


def _check_callback(url: str | None) -> None:
    """
    Refuse a URL that no HTTP client would send unchanged.

    Raises:
        Stopped: CALLBACK_URL.
    """
    if url is None:
        return
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if not is_plain or len(url) > MAX_URL_CHARS:
        raise Stopped(
            StopReason.CALLBACK_URL,
            f"callback_url: more than {MAX_URL_CHARS} characters, or some that no URL has",
        )
