"""
Tables from a customer's own storage: CSV, JSON and Parquet to persons.

Nothing is raised but `Stopped`. A row is read or counted as bad; of JSON arrays, and of CSV
without quotes, it is known otherwise how many there are.
"""

import io
import json
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Any

from segments.ingest.external_audience.person import PersonReader
from segments.ingest.external_audience.table import Table
from segments.model.customer_columns import CONTROLS, IdentityColumn
from segments.model.stop_reason import Stopped
from tests.fuzz.files import CANARY, quotes_nothing
from tests.fuzz.forms import json_splice, line_splice, within_gzip
from tests.fuzz.target import Check, Target
from tests.segments.ingest.deliveries import gz_of

_IDENTITIES = (
    IdentityColumn("mail", "Email"),
    IdentityColumn("device", "GAID"),
    IdentityColumn("ecid", "ECID"),
)


class _Read:
    def __init__(self, data: bytes) -> None:
        required = [identity.column for identity in _IDENTITIES[:1]]
        others = [*(identity.column for identity in _IDENTITIES[1:]), *CONTROLS]
        self.table = Table(io.BytesIO(data), len(data), required, others)  # type: ignore[arg-type]
        self.rows = self.persons = self.leavers = 0
        self.stopped: tuple[str, str] | None = None
        reader: PersonReader | None = None
        try:
            for piece in self.table.pieces():
                if reader is None:
                    columns = self.table.columns
                    identities = [each for each in _IDENTITIES if each.column in columns]
                    reader = PersonReader(identities, columns[len(identities) :])
                persons = reader.read(piece)
                self.rows += len(persons.leaves)
                self.persons += persons.with_id
                has_id = map(any, zip(*persons.ids, strict=True))
                self.leavers += sum(compress(persons.leaves, has_id))
        except Stopped as stopped:
            self.stopped = quotes_nothing(stopped)

    @property
    def ending(self) -> Hashable:
        if self.stopped is not None:
            return self.stopped
        return (
            len(self.table.columns),
            self.table.bad > 0,
            self.rows > 0,
            self.persons > 0,
            self.leavers > 0,
        )


@contextmanager
def _checking_csv() -> Iterator[Check]:
    def check(data: bytes) -> Hashable:
        read = _Read(data)
        if read.stopped is None and _is_plain(data):
            lines = data.split(b"\n")
            # As text: there a separator of records (1C to 1F) is blank, too.
            header, rows = lines[0], [line for line in lines[1:] if line.decode().strip()]
            others = [line for line in rows if line.strip(b"\r") != header.strip(b"\r")]
            told = read.rows + read.table.bad
            assert len(others) <= told <= len(rows), f"{len(rows)} rows, of which {told} are told"
        return read.ending

    yield check


def _is_plain(data: bytes) -> bool:
    """Tell whether each line is a row, to any reader of CSV."""
    is_text = data[:1].isalpha() and data.isascii() and b"\0" not in data
    return (
        is_text and b'"' not in data and b"\r" not in data and not data.lower().startswith(b"sep=")
    )


@contextmanager
def _checking_json() -> Iterator[Check]:
    def check(data: bytes) -> Hashable:
        read = _Read(data)
        if read.stopped is None:
            try:
                value = json.loads(data)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, list) and data.startswith(b"["):
                assert read.rows + read.table.bad == len(value), "an element is not told"
        return read.ending

    yield check


@contextmanager
def _checking_parquet() -> Iterator[Check]:
    def check(data: bytes) -> Hashable:
        return _Read(data).ending

    yield check


def _csv_seeds() -> Sequence[bytes]:
    return [
        b"mail,device,delete\na@example.com,38400000-8cf0-11bd-b23e-10b96e40000d,\n,,1\nb@example.com,,x\n",
        b"MAIL;ECID;PROCESS_CONSENT\r\na@example.com;123;y\r\n%b;;n\r\n" % CANARY,
        b'mail,notes\n"a@example.com","two\nlines, ""quoted"""\nb@example.com,\n',
        b'mail\na@example.com\n"never closed\nb@example.com\n',
        b"mail\tecid\na@example.com\t1\nmail\tecid\n\nb@example.com\n",
        gz_of(b"mail,device\na@example.com,\n"),
        "mail,ecid\na@example.com,é\n".encode("utf-16"),
        b"sep=|\nmail|delete\na@example.com|0\n",
        b"%b,x\n" % CANARY,
        b"mail,Mail\na,b\n",
    ]


def _json_seeds() -> Sequence[bytes]:
    row = {"mail": "a@example.com", "device": None, "ecid": 123, "delete": False}
    rows = [row, {**row, "process_consent": "y"}, {"mail": ["x"]}, {"ecid": 1.5}]
    written = json.dumps(rows).encode()
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in rows)
    return [
        written,
        lines,
        written + b"\n" + written,
        b'{"mail":"%b","MAIL":"x"}\n' % CANARY,
        b'{"mail":"a@example.com","delete":"n","delete":"y"}\n',
        gz_of(written),
        gz_of(lines),
        b"[1, null, [], {}, true]",
        b" \n" + written,
    ]


def _parquet_seeds() -> Sequence[bytes]:
    import pyarrow as pa
    from pyarrow import parquet

    def of(columns: dict[str, Any], **options: Any) -> bytes:
        file = io.BytesIO()
        parquet.write_table(pa.table(columns), file, **options)
        return file.getvalue()

    mails = ["a@example.com", None, "b@example.com"]
    return [
        of({"mail": mails}, compression="none"),
        of({"mail": mails, "delete": [True, None, False]}, compression="snappy"),
        of({"mail": mails, "ecid": [1, 2, None]}, compression="zstd", use_dictionary=False),
        of({"mail": pa.array(mails).dictionary_encode(), "device": [b"x", b"\xff", None]}),
        of({"mail": mails, "ecid": pa.array([1, 2, 3], pa.timestamp("ns"))}),
        of({"mail": [[1], [2, 3], None]}),
        of({"mail": mails * 3, "process_consent": [1.0, 0.0, None] * 3}, row_group_size=2),
        of({"other": mails}),
    ]


_TOKENS = (
    b"\n", b"\r\n", b",", b";", b"\t", b"|", b'"', b'""', b"mail", b"MAIL", b"device", b"ecid",
    b"delete", b"process_consent", b"null", b"[", b"]", b"{", b"}", b":", b"\xef\xbb\xbf", CANARY,
    b"9" * 30, b"1e999", b"[" * 300,
)  # fmt: skip
_WATCHED = ("segments/ingest/",)

TARGETS = (
    Target(
        "csv", _csv_seeds, _checking_csv, (*(line_splice,) * 5, within_gzip), _TOKENS,
        _WATCHED, 6_000, 60.0,
    ),
    Target(
        "json", _json_seeds, _checking_json, (*(json_splice,) * 5, line_splice, within_gzip),
        _TOKENS, _WATCHED, 6_000, 60.0,
    ),
    Target(
        "parquet", _parquet_seeds, _checking_parquet, (), (b"PAR1", bytes(4), b"\xff" * 4),
        _WATCHED, 6_000, 400.0,
    ),
)  # fmt: skip
