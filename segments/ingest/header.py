"""
Is a file's first line the name of its column, and which of several columns is the hashes'?

A header is not a record, so it is neither counted nor reported as bad. That makes it
the one place where a person's line could disappear without a word, and so only a
line that nobody would send as a record is one: it has a letter and at most 64
characters, and is neither an address nor anything that was meant as a hash, by its
length or by its digits. The
report says that there was a header, and quotes it only where it is a name from the
list below: the first line of a file without a header is a person.

A warehouse exports tables of several columns. Then the column of hashes is found by
its name, or else because it alone holds hashes; two that could be it stop the file,
since a guess would load the wrong one without a word.
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
"""Names of a column of hashes, in lower case and without what stands between words."""

_KNOWN_BESIDES = frozenset(
    {
        *("email", "emails", "emailaddress", "mail", "id", "name", "phone"),
        *("postaladdress", "securitynumber", "aaid", "idfa", "segment", "segmentid"),
    }
)
_BETWEEN_WORDS = str.maketrans("", "", " _-.")


def is_header(value: bytes) -> bool:
    """Tell whether a file's first value is the name of a column, and no record."""
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
    """Return a header as it may be shown: its text, or nothing where a name is none of ours."""
    text = line.decode(errors="replace").strip()
    names = [_name(cell) for cell in cells_of(text, delimiter_of(text))]
    known = KNOWN_NAMES | _KNOWN_BESIDES
    return text if len(text) <= MAX_HEADER_CHARS and known.issuperset(names) else ""


def delimiter_of(line: str) -> str | None:
    """Return the character that separates the columns of a header; `None` of one column."""
    found = max(DELIMITERS, key=line.count)
    return found if found in line else None


def cells_of(line: str, delimiter: str | None) -> list[str]:
    """Return the names that a header has."""
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
    Find the column of hashes of a table.

    Args:
        names: Of its columns.
        rows: Its first rows.

    Returns:
        Its place, from 0; `None` if no column has a hash, by which none is told.

    Raises:
        Stopped: UNREADABLE_FILE: two columns could be it.
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
