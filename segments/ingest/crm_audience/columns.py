"""
Which columns a file of typed columns has, and which of them are ids.

A CRM system exports what it knows of a person: a header names the columns, and
each value is hashed (SHA-256, hex) but for the device id. Only what can stand
in a bid request becomes an id; a postal address or a social security number
never does, so such values are counted and not kept anywhere.

    column           value              id
    EMAIL            SHA-256, hex       as an e-mail hash of `segments.model.identity`
    PHONE            SHA-256, hex       as a phone hash
    AAID             UUID               as a device id
    POSTALADDRESS    SHA-256, hex       none
    SECURITYNUMBER   SHA-256, hex       none

Between columns stands `,`, or `;`, a tab or `|`, as in Excel's files of other languages.
Case, blanks, `_` and `-` of a title don't count: `Postal address` is one, too.
A column of another title is passed over. A file with the one column EMAIL is no
such file, but one of e-mail hashes under a title, of whichever algorithm: see
`segments.ingest.parse`, which is many times faster.
"""

import csv
from enum import StrEnum

from segments.ingest.header import DELIMITERS

MAX_COLUMNS = 64
_IGNORED = str.maketrans("", "", " _-")


class DataType(StrEnum):
    """What a column holds; the vendor's words."""

    EMAIL = "EMAIL"
    PHONE = "PHONE"
    POSTALADDRESS = "POSTALADDRESS"
    SECURITYNUMBER = "SECURITYNUMBER"
    AAID = "AAID"


IN_BIDS = (DataType.EMAIL, DataType.PHONE, DataType.AAID)
"""The types that can occur in a bid request."""

Columns = tuple[DataType | None, ...]
"""What each column of a file holds; `None` of one that is passed over."""


def columns_of(text: bytes) -> Columns | None:
    """
    Return the columns that the first line of a file names; `None` if it is no such header.

    Args:
        text: The beginning of the file, with at least its first line, as
            `segments.ingest.text` has it.
    """
    first = next((line for line in text.split(b"\n", 8) if line.rstrip(b"\r")), b"")
    found = columns_and_delimiter(first)
    return None if found is None else found[0]


def columns_and_delimiter(line: bytes) -> tuple[Columns, str] | None:
    """Return the columns that a line names, and what stands between them; `None` if it is none."""
    try:
        header = line.decode().strip()
        for delimiter in DELIMITERS:
            titles = next(csv.reader([header], delimiter=delimiter), [])
            columns = tuple(_type_of(title) for title in titles)
            if any(columns) and columns != (DataType.EMAIL,) and len(columns) <= MAX_COLUMNS:
                return columns, delimiter
    except (UnicodeDecodeError, csv.Error):
        pass
    return None


def _type_of(title: str) -> DataType | None:
    try:
        return DataType(title.translate(_IGNORED).upper())
    except ValueError:
        return None
