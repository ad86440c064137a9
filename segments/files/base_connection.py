"""
Base connections: customers' directories and buckets from which we take files.

No path leads out of a connection: this module checks customers' paths; `customer_directory` follows
no links, and a bucket's URL may have a prefix.

A bucket's secrets are environment variables: an option `env:NAME` is the variable's value at
opening.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

import msgspec
from obstore.exceptions import BaseError, UnknownConfigurationKeyError
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
_OF_THE_CLIENT = frozenset(
    {
        *("allow_http", "allow_invalid_certificates", "connect_timeout", "default_content_type"),
        *("http1_only", "http2_keep_alive_interval", "http2_keep_alive_timeout"),
        *("http2_keep_alive_while_idle", "http2_max_frame_size", "http2_only"),
        *("pool_idle_timeout", "pool_max_idle_per_host", "proxy_ca_certificate"),
        *("proxy_excludes", "proxy_url", "randomize_addresses", "read_timeout", "timeout"),
        *("user_agent",),
    }
)
"""obstore accepts these after a bucket's prefix, and panics (pyo3-object_store, aws/store.rs)."""

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
    Return a path below a connection, if customers may give it.

    Raises:
        ValueError: The path has blanks, which the vendor refuses, or may not lead down.
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
    Return a connection's URL, if these options can open it.

    Raises:
        Refusal: They can't, or a secret option holds the secret itself.
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
    Open a connection without a request to its storage.

    Raises:
        ConnectionUnusable: The connection is set up wrongly, or lacks an environment variable.
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
    # In a bucket's config, obstore panics at this client option.
    may_be_plain = _true_or_false("allow_http", config.pop("allow_http", "false"))
    _check_names(config)
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
    except UnknownConfigurationKeyError as error:
        unknown = [name for name in config if f"'{name}'" in str(error)]
        raise ConnectionUnusable(
            f"no option of this kind of bucket: {', '.join(unknown)}"
        ) from None
    except (BaseError, ValueError, OSError) as error:
        if "as boolean" in str(error):
            raise ConnectionUnusable("an option that is true or false is neither") from None
        # obstore's message may quote secrets.
        raise ConnectionUnusable(
            f"no bucket can be opened by this URL ({type(error).__name__})"
        ) from None
    return CustomerBucket(bucket)


def variables_named(options: Mapping[str, str]) -> set[str]:
    """Return the environment variables with a connection's secrets."""
    return {text.removeprefix(_ENV) for text in options.values() if text.startswith(_ENV)}


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        prefix = next((each for each in _OPTION_PREFIXES if name.lower().startswith(each)), None)
        if prefix is None:
            raise ConnectionUnusable(
                f"option {name}: options are allow_http and names that begin {_OPTION_PREFIXES}"
            )
        own = name.lower().removeprefix(prefix)
        if own in _OF_THE_CLIENT:
            instead = ": it is called allow_http" if own == "allow_http" else ""
            raise ConnectionUnusable(f"option {name} is none of the bucket's{instead}")


def _true_or_false(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConnectionUnusable(f"option {name} is true or false")
    return text.lower() == "true"


def _value(text: str) -> str:
    if not text.startswith(_ENV):
        return text
    name = text.removeprefix(_ENV)
    if name not in os.environ:
        raise ConnectionUnusable(f"the environment variable {name} is not set")
    return os.environ[name]
