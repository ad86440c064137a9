"""A store that can't be written, on demand."""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StoreGone


class CutOff:
    """
    A client of the store whose connection is lost when a record is to be written.

    Records are written through pipelines that are no transactions; all else,
    the catalog too, gets through.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)

    def pipeline(self, transaction: bool = True) -> Any:
        """Make a pipeline, if it is a transaction."""
        if not transaction:
            raise StoreGone
        return self._redis.pipeline(transaction=True)


def cut_off(redis: Redis) -> Redis:
    """Return a client that can't write records."""
    client: Any = CutOff(redis)
    return client  # type: ignore[no-any-return]
