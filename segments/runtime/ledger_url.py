"""
The ledger's URL: the accepted forms, and the engines' forms.

    sqlite:///FILE, sqlite+aiosqlite:///FILE              as SQLAlchemy takes it
    postgresql://USER:PASSWORD@HOST/DATABASE, and other   as asyncpg takes it
    forms of libpq; postgres, postgresql+asyncpg

A doubtful URL is refused: it holds a password, and messages name host and database.
"""

from pathlib import Path
from urllib.parse import urlsplit

_SQLITE_SCHEMES = ("sqlite+aiosqlite", "sqlite")
_POSTGRES_SCHEMES = ("postgresql", "postgresql+asyncpg", "postgres")


def check_ledger_url(url: str) -> None:
    """
    Refuse a text that is no ledger's URL.

    Raises:
        ValueError: The message does not quote the text.
    """
    scheme, _, path = url.partition("://")
    if scheme in _POSTGRES_SCHEMES:
        _check_postgres(url)
    elif scheme not in _SQLITE_SCHEMES or path.removeprefix("/") in ("", ":memory:"):
        raise ValueError(
            "not of the form sqlite+aiosqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
        )


def url_for_engine(url: str) -> str:
    """Return a checked URL with our driver."""
    scheme, _, rest = url.partition("://")
    if scheme in _POSTGRES_SCHEMES:
        return f"postgresql://{rest}"
    return f"sqlite+aiosqlite://{rest}"


def embedded_ledger_url(data_dir: Path) -> str:
    """Return the URL of the data directory's ledger."""
    return f"sqlite+aiosqlite:///{data_dir.absolute() / 'ledger.db'}"


def _check_postgres(url: str) -> None:
    """
    Raise a `ValueError` for a URL that would be split at the wrong place.

    Messages would then show part of the password as host or database.
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
