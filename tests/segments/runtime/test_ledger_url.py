"""A ledger's URL is taken as it is meant, or refused without quoting it."""

import re
from pathlib import Path

import pytest

from segments.runtime.ledger_url import check_ledger_url, embedded_ledger_url, url_for_engine

_SECRET = "hunter2"
_NO_LEDGER = "not of the form sqlite+aiosqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
_NO_URL = "not a URL as it stands; write @ : / ? # % in a password as %40 %3A %2F %3F %23 %25"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param(f"mysql://u:{_SECRET}@db/x", _NO_LEDGER, id="another engine's"),
        pytest.param(
            f"postgresql://u:12/{_SECRET}@db/x",
            _NO_URL,
            id="a password with a slash, half of which would be the database",
        ),
        pytest.param(
            f"postgresql://u:12@{_SECRET}@db/x",
            _NO_URL,
            id="a password with an at sign, half of which would be the host",
        ),
        pytest.param(
            f"postgresql://u:{_SECRET}#@db/x",
            _NO_URL,
            id="a password with a hash, half of which would be the port",
        ),
        pytest.param(
            f"postgresql://u:{_SECRET}@db",
            "names no database, as in postgresql://USER:PASSWORD@HOST/DATABASE",
            id="a server without a database",
        ),
        pytest.param(
            "sqlite:///:memory:", _NO_LEDGER, id="a ledger that every process would have of its own"
        ),
    ],
)
def test_what_is_no_ledger_is_refused_and_not_quoted(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        check_ledger_url(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////x/l.db", "sqlite+aiosqlite:////x/l.db"),
        ("sqlite+aiosqlite:////x/l.db", "sqlite+aiosqlite:////x/l.db"),
        ("postgres://u@db/x", "postgresql://u@db/x"),
        ("postgresql+asyncpg://u:a%40b@a:1,b:2/x", "postgresql://u:a%40b@a:1,b:2/x"),
        ("postgresql:///x?host=/run/db", "postgresql:///x?host=/run/db"),
    ],
)
def test_ledger_url_gets_the_driver_that_we_have(url: str, expected: str) -> None:
    check_ledger_url(url)

    assert url_for_engine(url) == expected


def test_embedded_ledger_lies_in_the_data_directory_wherever_that_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    assert embedded_ledger_url(Path("a b")) == f"sqlite+aiosqlite:///{tmp_path}/a b/ledger.db"
