"""Where the store is: as it was set, or the embedded one's socket."""

from pathlib import Path
from urllib.parse import quote


def store_url(redis_url: str | None, data_dir: Path) -> str:
    """Return the store's URL: the one that was set, or the embedded store's socket."""
    if redis_url is not None:
        return redis_url
    return f"unix://{quote(str(data_dir.absolute() / 'store' / 'valkey.sock'))}"
