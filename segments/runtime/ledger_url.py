"""
The ledger's URL: what an operator may write, and what the engines take.

    sqlite:///FILE, sqlite+aiosqlite:///FILE              as SQLAlchemy takes it
    postgresql://USER:PASSWORD@HOST/DATABASE, and what    as asyncpg takes it
    else libpq's URLs may say; postgres, postgresql+asyncpg

A URL is refused rather than guessed at: it holds a password, and messages name the
host and the database.
"""

from pathlib import Path
from urllib.parse import urlsplit

_SQLITE_SCHEMES = ("sqlite+aiosqlite", "sqlite")
_POSTGRES_SCHEMES = ("postgresql", "postgresql+asyncpg", "postgres")


def check_ledger_url(url: str) -> None:
    """
    Refuse what is no URL of a ledger.

    Raises:
        ValueError: It is none; the message does not quote it.
    """
    scheme, _, path = url.partition("://")
    if scheme in _POSTGRES_SCHEMES:
        _check_postgres(url)
    elif scheme not in _SQLITE_SCHEMES or path.removeprefix("/") in ("", ":memory:"):
        raise ValueError(
            "not of the form sqlite+aiosqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
        )


def url_for_engine(url: str) -> str:
    """Return a URL that was checked with the driver that we have."""
    scheme, _, rest = url.partition("://")
    if scheme in _POSTGRES_SCHEMES:
        return f"postgresql://{rest}"
    return f"sqlite+aiosqlite://{rest}"


def embedded_ledger_url(data_dir: Path) -> str:
    """Return the URL of the ledger that lies in the data directory."""
    return f"sqlite+aiosqlite:///{data_dir.absolute() / 'ledger.db'}"


def _check_postgres(url: str) -> None:
    """
    Raise a `ValueError` for what would be taken apart at the wrong place.

    Then a piece of the password would be the host or the database, which we do
    name in messages.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port if "," not in parts.netloc else None  # several hosts have their own
    except ValueError:
        parts = None
    if parts is None or url.count("@") > 1 or "@" in url[len(parts.scheme + parts.netloc) + 3 :]:
        raise ValueError(
            "not a URL as it stands; write @ : / ? # % in a password as %40 %3A %2F %3F %23 %25"
        )
    if not parts.path.strip("/") and "dbname=" not in parts.query:
        raise ValueError("names no database, as in postgresql://USER:PASSWORD@HOST/DATABASE")
