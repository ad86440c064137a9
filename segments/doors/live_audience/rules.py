"""
LiveAudience's rules of a delivery: which file describes which, and what may be answered.

"Data files of email hashes `<filename>` and metadata describing segments for
the email addresses `<filename>.json` are uploaded via SFTP" ("Basic
Workflow"). "The metadata file should have the same name as the data file as a
best practice, but is not mandatory" ("SFTP File Transfers"): so the pair is
made by `file.name` in the metadata alone, and the answer is named after the
metadata file, `<filename>.status`.

Nothing here reads a file or the clock.
"""

from typing import NamedTuple

from segments.doors.live_audience.folder import METADATA
from segments.doors.live_audience.metadata import Metadata, read_metadata
from segments.model.stop_reason import Stopped, StopReason

DOOR = "sftp"

MAX_URL_CHARS = 2048

_PACKED = (".gz", ".zip")


class Said(NamedTuple):
    """A metadata file as far as it could be read."""

    metadata: Metadata | None  # none: it is not one
    refused: Stopped | None  # none: it is in order, as far as a file can say


def answer_name(file_name: str) -> str | None:
    """Return what a metadata file's answer is named after, `None` if it is none."""
    stem, suffix = file_name[: -len(METADATA)], file_name[-len(METADATA) :]
    return stem if stem and suffix.lower() == METADATA else None


def data_file_names(name: str) -> tuple[str, ...]:
    """
    Return under which names a data file may lie, the likeliest first.

    `file.name` is "`<digest_value>.txt`" even of a file that was "compressed in
    either .GZ or .ZIP format", so `a.txt` may come as `a.txt.gz` or `a.gz`.
    """
    stem, dot, _ = name.rpartition(".")
    stems = (name, stem) if dot and stem else (name,)
    return (name, *(f"{each}{suffix}" for each in stems for suffix in _PACKED))


def read(raw: bytes, partner_id: str) -> Said:
    """
    Read a metadata file that lay in a partner's folder.

    A partner speaks for itself alone: another `partner_id` than the folder's is
    invalid, whether or not there is such a partner.
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
    Refuse a URL that no HTTP client would send as it stands.

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
