"""
The columns of a file of typed columns, and those that are ids.

A CRM system exports its data under a header; each value but the device id is hashed (SHA-256, hex).
Only values that can occur in a bid request become ids; others are counted, and kept nowhere.

    column           value              id
    EMAIL            SHA-256, hex       as an e-mail hash of `segments.model.identity`
    PHONE            SHA-256, hex       as a phone hash
    AAID             UUID               as a device id
    POSTALADDRESS    SHA-256, hex       none
    SECURITYNUMBER   SHA-256, hex       none

The delimiter is `,`, or `;`, tab or `|` as in Excel's files of other languages. Titles are
compared without case, blanks, `_` and `-`; columns with other titles are skipped. A file with EMAIL
alone has e-mail hashes of any algorithm: see `segments.ingest.parse`, which is many times faster.
"""

import csv
from enum import StrEnum

from segments.ingest.header import DELIMITERS

MAX_COLUMNS = 64
_IGNORED = str.maketrans("", "", " _-")


class DataType(StrEnum):
    """A column's content, in the vendor's words."""

    EMAIL = "EMAIL"
    PHONE = "PHONE"
    POSTALADDRESS = "POSTALADDRESS"
    SECURITYNUMBER = "SECURITYNUMBER"
    AAID = "AAID"


IN_BIDS = (DataType.EMAIL, DataType.PHONE, DataType.AAID)
"""The types that can occur in a bid request."""

Columns = tuple[DataType | None, ...]
"""The content of each column of a file; `None` for a skipped column."""


def columns_of(text: bytes) -> Columns | None:
    """
    Return the columns in the first line of a file's text; `None` if it is no such header.
    """
    first = next((line for line in text.split(b"\n", 8) if line.rstrip(b"\r")), b"")
    found = columns_and_delimiter(first)
    return None if found is None else found[0]


def columns_and_delimiter(line: bytes) -> tuple[Columns, str] | None:
    """Return a header's columns and delimiter; `None` if this is none."""
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
