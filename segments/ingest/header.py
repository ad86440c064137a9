"""
Detects a file's header, and the column of hashes in a table.

A header is neither counted as a record nor reported as bad, so here alone a person's line could
disappear silently. Therefore only a line that no partner would send as a record is a header: it has
a letter and at most 64 characters, is no address, and by its length and digits can't be meant as
a hash. The report quotes only names from the list below.

In a table, the column of hashes is found by its name, or because no other column holds hashes. Two
candidates stop the file, since a guess could silently load the wrong one.
"""

import csv
from collections.abc import Sequence

from segments.ingest.hash_value import (
    CHARS_TO_TYPE,
    bare,
    base64_digest,
    hex_digest,
    is_long_hex,
    is_null,
)
from segments.model.stop_reason import Stopped, StopReason

MAX_HEADER_CHARS = 64
DELIMITERS = (",", ";", "\t", "|")

_ALGORITHMS = ("md5", "sha1", "sha2", "sha256")
_WORDS = ("email", "emailaddress", "mail", "hem", "hash", "hashedemail", "hashedemailaddress")
KNOWN_NAMES = frozenset(
    {
        *_ALGORITHMS,
        *("hem", "hems", "hash", "hashes", "emailhash", "emailhashes", "mailhash"),
        *("hashedemail", "hashedemails", "hashedemailaddress", "emailhashed", "digest"),
        *(word + algorithm for word in _WORDS for algorithm in _ALGORITHMS),
        *(algorithm + word for word in _WORDS for algorithm in _ALGORITHMS),
    }
)
"""Names of a column of hashes, in lower case and without separators between words."""

_KNOWN_BESIDES = frozenset(
    {
        *("email", "emails", "emailaddress", "mail", "id", "name", "phone"),
        *("postaladdress", "securitynumber", "aaid", "idfa", "segment", "segmentid"),
    }
)
_BETWEEN_WORDS = str.maketrans("", "", " _-.")


def is_header(value: bytes) -> bool:
    """Tell whether a file's first value is a column name, not a record."""
    text = value.decode(errors="replace")
    if _name(text) in KNOWN_NAMES:
        return True
    return (
        len(text) <= MAX_HEADER_CHARS
        and len(value) not in CHARS_TO_TYPE
        and any(char.isalpha() for char in text)
        and "@" not in text
        and not is_null(value)
        and not is_long_hex(value)
        and hex_digest(value) is None
        and base64_digest(value) is None
        and 2 * sum(char.isdigit() for char in text) <= len(text)
    )


def known_text(line: bytes) -> str:
    """Return a header's text if all its names are known; else nothing."""
    text = line.decode(errors="replace").strip()
    names = [_name(cell) for cell in cells_of(text, delimiter_of(text))]
    known = KNOWN_NAMES | _KNOWN_BESIDES
    return text if len(text) <= MAX_HEADER_CHARS and known.issuperset(names) else ""


def delimiter_of(line: str) -> str | None:
    """Return the character between a header's columns, or `None`."""
    found = max(DELIMITERS, key=line.count)
    return found if found in line else None


def cells_of(line: str, delimiter: str | None) -> list[str]:
    """Return the names in a header."""
    if delimiter is None:
        return [line]
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def is_table_header(line: bytes) -> bool:
    """Tell whether a first line names several columns."""
    text = line.decode(errors="replace")
    cells = cells_of(text, delimiter_of(text))
    named = [cell for cell in cells if cell.strip()]
    return len(cells) > 1 and bool(named) and all(is_header(bare(c.encode())) for c in named)


def column_of_hashes(names: Sequence[str], rows: Sequence[Sequence[str]]) -> int | None:
    """
    Return the index, from 0, of a table's column of hashes; `None`: its first `rows` have none.

    Raises:
        Stopped: UNREADABLE_FILE: there are two candidates.
    """
    with_hashes = [at for at in range(len(names)) if _has_hashes(rows, at)]
    by_name = [at for at, name in enumerate(names) if _name(name) in KNOWN_NAMES]
    found = [at for at in with_hashes if at in by_name] or with_hashes
    if len(found) > 1:
        raise Stopped(
            StopReason.UNREADABLE_FILE,
            f"columns {' and '.join(_quoted(names[at], at) for at in found[:2])} could both be"
            " the hashes: send one of them",
        )
    return found[0] if found else None


def _has_hashes(rows: Sequence[Sequence[str]], at: int) -> bool:
    values = (bare(row[at].encode(errors="replace")) for row in rows if at < len(row))
    return any(hex_digest(v) is not None or base64_digest(v) is not None for v in values)


def _name(text: str) -> str:
    return text.strip().strip("\"'").translate(_BETWEEN_WORDS).lower()


def _quoted(name: str, at: int) -> str:
    name = name.strip()
    return f'"{name}"' if name else f"{at + 1} (without a name)"
