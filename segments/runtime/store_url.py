from pathlib import Path
from urllib.parse import quote, urlsplit

_SCHEMES = (
    *("redis", "rediss", "unix"),
    *("redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel"),
)


def check_store_url(url: str) -> None:
    """
    Refuse a text that is no store's URL.

    Raises:
        ValueError: Its scheme is unknown; the message does not quote the URL.
    """
    if scheme_of(url) not in _SCHEMES:
        raise ValueError(
            "not a URL that begins with redis://, rediss://, unix://, redis+cluster:// or"
            " redis+sentinel://"
        )


def store_url(redis_url: str | None, data_dir: Path) -> str:
    """Return the store's URL: as set, or the embedded store's socket."""
    if redis_url is not None:
        return redis_url
    return f"unix://{quote(str(data_dir.absolute() / 'store' / 'valkey.sock'))}"


def scheme_of(url: str) -> str:
    """Return a URL's scheme; empty for a text that is no URL."""
    try:
        return urlsplit(url).scheme
    except ValueError:  # "Invalid IPv6 URL"
        return ""
