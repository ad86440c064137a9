"""
Base connections: the customers' directories and buckets, out of which files are taken.

Nothing outside of one can be reached through it. A path that a customer gives is
checked here and nowhere else; `customer_directory` follows no link on its way down,
and a bucket's URL may name a prefix, which stands before every path.

What is secret about a bucket stands in the environment of our processes: an
option `env:NAME` is the value of that variable, read when the bucket is opened.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

import msgspec
from obstore.exceptions import BaseError
from obstore.store import from_url

from segments.files.customer_bucket import CustomerBucket
from segments.files.customer_directory import CustomerDirectory
from segments.files.customer_storage import ConnectionUnusable, Storage
from segments.model.refusal import Refusal

if TYPE_CHECKING:
    from obstore.store import S3Config

MAX_PATH_CHARS = 1024
_ENV = "env:"
_OPTION_PREFIXES = ("aws_", "azure_", "google_")
_SECRET_WORDS = ("secret", "password", "token", "sas", "account_key", "service_account_key")


class BaseConnection(msgspec.Struct, frozen=True):
    """One row of the ledger's base connections."""

    id: int
    public_id: str  # `baseConnectionId`
    sandbox_id: int
    name: str
    url: str
    options: dict[str, str]


def checked_path(text: str) -> str:
    """
    Return a path below a connection, as customers may give it.

    Raises:
        ValueError: It has blanks, which the vendor refuses; or it could lead
            anywhere but down.
    """
    path = text.removesuffix("/")
    if not 0 < len(path) <= MAX_PATH_CHARS:
        raise ValueError(f"a path of {len(path)} characters, not 1 to {MAX_PATH_CHARS}")
    if not path.isprintable() or " " in path or "\\" in path:
        raise ValueError("a path with blanks, backslashes or characters that can't be printed")
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        raise ValueError("not a path that leads down from the base connection")
    return path


def checked(url: str, options: Mapping[str, str]) -> str:
    """
    Return a connection's URL, if it can be opened with these options.

    Raises:
        Refusal: It can't, or an option that is secret is given as it stands.
    """
    for name, value in options.items():
        is_secret = any(word in name.lower() for word in _SECRET_WORDS)
        if is_secret and not value.startswith(_ENV):
            raise Refusal(f"option {name} is secret: name a variable, {name}=env:VARIABLE")
    try:
        _open(url, options)
    except ConnectionUnusable as error:
        raise Refusal(str(error)) from None
    return url


def open_storage(connection: BaseConnection) -> Storage:
    """
    Open a connection; nothing is asked of the other side yet.

    Raises:
        ConnectionUnusable: It is set up wrongly, or an environment variable is not there.
    """
    return _open(connection.url, connection.options)


def _open(url: str, options: Mapping[str, str]) -> Storage:
    parts = urlsplit(url)
    if parts.scheme == "file":
        directory = Path(unquote(parts.path))
        if parts.netloc or options or not directory.is_absolute():
            raise ConnectionUnusable("not of the form file:///DIRECTORY, without options")
        return CustomerDirectory(directory)
    config = {name: _value(value) for name, value in options.items()}
    # Of the client and not of the bucket; obstore panics where it finds it there.
    may_be_plain = config.pop("allow_http", "false").lower() == "true"
    if not all(name.startswith(_OPTION_PREFIXES) for name in config):
        raise ConnectionUnusable(f"options are allow_http and names that begin {_OPTION_PREFIXES}")
    try:
        bucket = from_url(
            url,
            config=cast("S3Config", config),
            client_options={
                "allow_http": may_be_plain,
                "timeout": "60s",
                "connect_timeout": "5s",
            },
            retry_config={"max_retries": 2},
        )
    except (BaseError, ValueError, OSError) as error:
        # Not its words: they quote the URL, and may quote what is secret.
        raise ConnectionUnusable(
            f"no bucket can be opened by this URL ({type(error).__name__})"
        ) from None
    return CustomerBucket(bucket)


def variables_named(options: Mapping[str, str]) -> set[str]:
    """Return the environment variables that hold what is secret of a connection's options."""
    return {text.removeprefix(_ENV) for text in options.values() if text.startswith(_ENV)}


def _value(text: str) -> str:
    if not text.startswith(_ENV):
        return text
    name = text.removeprefix(_ENV)
    if name not in os.environ:
        raise ConnectionUnusable(f"the environment variable {name} is not set")
    return os.environ[name]
