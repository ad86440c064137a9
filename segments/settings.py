"""
What an operator sets: environment variables, or lines of a `.env` file.

Read once, when a process starts, and frozen. A setting that is wrong stops the
process before it has done anything, with one line for each that names the
variable as the operator typed it. Passwords stand in URLs, so no URL is ever
quoted: not in these lines, not in the `repr` of the settings.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

T = TypeVar("T", bound=BaseSettings)

WRONG_SETTINGS = 2
"""Exit status of a process that refuses its settings; as of one that refuses its arguments."""

_STORE_SCHEMES = ("redis", "rediss", "unix")
_LEDGER_SCHEMES = ("sqlite+aiosqlite", "sqlite")


class Settings(BaseSettings):
    """What every process of the control plane reads; each field is `SEGMENTS_<FIELD>`."""

    # What is set to nothing, as `compose.yaml` passes on an unset variable, is not set.
    model_config = SettingsConfigDict(
        env_prefix="SEGMENTS_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    data_dir: Path = Path("data")
    """Where the embedded store, the SQLite ledger and the local blobs live."""

    redis_url: str | None = Field(None, repr=False)
    """
    The membership store: `redis://`, `rediss://` or `unix://`. Unset: the
    embedded store, on a socket in `data_dir`.
    """

    ledger_url: str | None = Field(None, repr=False)
    """The ledger: `sqlite+aiosqlite:///FILE`. Unset: `ledger.db` in `data_dir`."""

    blob_url: str | None = Field(None, repr=False)
    """Where delivered files are kept. Unset: `blobs` in `data_dir`."""

    expected_ids: int = Field(1_000_000, ge=1, le=10**12)
    """
    How many persons a new store is laid out for, within a factor of three or
    so. A store that exists keeps the layout that it was created with.
    """

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str | None) -> str | None:
        if url is not None and _scheme(url) not in _STORE_SCHEMES:
            raise ValueError("not a URL that begins with redis://, rediss:// or unix://")
        return url

    @field_validator("ledger_url")
    @classmethod
    def _check_ledger_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        scheme, _, path = url.partition("://")
        if scheme not in _LEDGER_SCHEMES or path.removeprefix("/") in ("", ":memory:"):
            raise ValueError("not of the form sqlite+aiosqlite:///FILE, the one ledger there is")
        return url

    @property
    def embedded_store(self) -> bool:
        """We run the store ourselves: no other was named."""
        return self.redis_url is None

    @property
    def store_url(self) -> str:
        """The URL of the store in use, as `segments.store.connection.connect` takes it."""
        return store_url(self.redis_url, self.data_dir)

    @property
    def ledger_dsn(self) -> str:
        """The URL of the ledger in use, as SQLAlchemy takes it."""
        if self.ledger_url is None:
            return f"sqlite+aiosqlite:///{self.data_dir.absolute() / 'ledger.db'}"
        _, _, path = self.ledger_url.partition("://")
        return f"sqlite+aiosqlite://{path}"


def store_url(redis_url: str | None, data_dir: Path) -> str:
    """Return the store's URL: the one that was set, or the embedded store's socket."""
    if redis_url is not None:
        return redis_url
    return f"unix://{quote(str(data_dir.absolute() / 'store' / 'valkey.sock'))}"


def read_settings(cls: type[T]) -> T:
    """
    Read a plane's settings, or end the process with one line for each wrong one.

    Side effects: writes to stderr and exits with `WRONG_SETTINGS` if any is wrong.
    """
    try:
        return cls()
    except ValidationError as error:
        lines = [_line(cls, details) for details in error.errors()]
    except SettingsError as error:
        lines = [_unreadable(cls, error)]
    except (OSError, UnicodeDecodeError) as error:
        lines = [f".env: cannot be read ({type(error).__name__})"]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.exit(WRONG_SETTINGS)


def _line(cls: type[BaseSettings], details: Any) -> str:
    """One wrong setting in the words of whoever set it."""
    where, *inside = details["loc"] or ("settings",)
    names = _names(cls, str(where))
    variable = _set_name(names)
    place = "".join(f", {part}" for part in inside)
    if details["type"] == "missing" and not inside:
        return f"{variable}: not set, and has no default"
    value = details["input"]
    # Inside of a JSON value the whole line would be noise; a URL may hold a password.
    if inside or not isinstance(value, str) or variable.endswith("_URL"):
        return f"{variable}{place}: {_reason(details)}"
    return f"{variable}={value}: {_reason(details)}"


def _reason(details: Any) -> str:
    bounds = details.get("ctx", {})
    match details["type"]:
        case "int_parsing" | "int_type" | "int_from_float":
            return "not a whole number"
        case "float_parsing" | "float_type":
            return "not a number"
        case "bool_parsing" | "bool_type":
            return "neither true nor false"
        case "greater_than":
            return f"must be more than {_plain(bounds['gt'])}"
        case "greater_than_equal":
            return f"must be at least {_plain(bounds['ge'])}"
        case "less_than":
            return f"must be less than {_plain(bounds['lt'])}"
        case "less_than_equal":
            return f"must be at most {_plain(bounds['le'])}"
        case "value_error":
            return str(bounds["error"])
        case _:
            return str(details["msg"]).removeprefix("Input ")


def _plain(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def _unreadable(cls: type[BaseSettings], error: SettingsError) -> str:
    """A setting of more than one value that is not the JSON it must be."""
    for name in cls.model_fields:
        if f'"{name}"' in str(error):
            return f"{_set_name(_names(cls, name))}: not JSON"
    cause = error.__cause__
    return f"settings: {'not JSON' if isinstance(cause, json.JSONDecodeError) else error}"


def _names(cls: type[BaseSettings], where: str) -> list[str]:
    """Return the variables that can set a field; pydantic gives its name or its first alias."""
    for name, field in cls.model_fields.items():
        aliases = _aliases(field)
        if where == name or where in aliases:
            return aliases or [f"{cls.model_config.get('env_prefix', '')}{name}".upper()]
    return [where]


def _aliases(field: FieldInfo) -> list[str]:
    match field.validation_alias:
        case str(alias):
            return [alias]
        case AliasChoices(choices=choices):
            return [alias for alias in choices if isinstance(alias, str)]
        case _:
            return []


def _set_name(names: list[str]) -> str:
    """Of the variables that could set a field, the one that did; else the first."""
    is_set = {name.upper() for name in os.environ}
    return next((name for name in names if name.upper() in is_set), names[0])


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:  # "Invalid IPv6 URL"
        return ""
