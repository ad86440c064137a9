"""
Calls of a script, sent to the store, a slice of them in each round trip.

A server that has forgotten the script, as one does that was started anew, gets it
again and the calls with it. What goes wrong is told in our words: redis-py's message
quotes the command, and the store's may quote what it was sent, and both are ids.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError, RedisError, ResponseError

from segments.model.record import CorruptRecord, NewerRecord
from segments.store import keys
from segments.store.error_code import error_code, kind_of
from segments.store.reader import StoreUnusable
from segments.store.script_calls import Call, slices
from segments.store.scripts import Script
from segments.store.servers.masters import load_script


class RoundTrips:
    """
    Sends calls of one script, all with the same arguments.

    Args:
        redis: The store.
        script: To be called.
        arguments: Of all calls.
        pipeline: What they are sent by; one of its own for each slice if none is given.
    """

    def __init__(
        self,
        redis: Redis,
        script: Script,
        arguments: Sequence[bytes],
        pipeline: Pipeline | None = None,
    ) -> None:
        self._redis = redis
        self._script = script
        self._arguments = arguments
        self._pipeline = pipeline

    async def run(self, calls: Iterable[Call]) -> list[Any]:
        """
        Do all calls, as many at a time as `slices` allows.

        Returns:
            What each came to, in their order.

        Raises:
            CorruptRecord: Names the bucket of the first call that met a record
                which can't be read. Calls before it, and those of its slice, were done.
            StoreUnusable: The store refuses to do a call.
            redis.exceptions.RedisError: The store can't be reached.
        """
        replies = []
        for calls_of_slice in slices(calls):
            replies += await self.run_slice(calls_of_slice)
        return replies

    async def run_slice(self, calls: Sequence[Call]) -> list[Any]:
        """Do these calls in one round trip; otherwise as `run`."""
        replies = await self.try_slice(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def try_slice(self, calls: Sequence[Call]) -> list[Any]:
        """
        Do these calls in one round trip, whatever becomes of any of them.

        Returns:
            What each came to, in their order; of one that failed, the error that
            `run` would raise.
        """
        pipeline = self._pipeline or self._redis.pipeline(transaction=False)
        replies = await self._send(pipeline, calls)
        forgotten = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if forgotten:
            await load_script(self._redis, self._script.source)
            again = await self._send(pipeline, [calls[n] for n in forgotten])
            for n, reply in zip(forgotten, again, strict=True):
                replies[n] = reply
        return [
            _reworded(reply, call.bucket) if isinstance(reply, Exception) else reply
            for call, reply in zip(calls, replies, strict=True)
        ]

    async def _send(self, pipeline: Pipeline, calls: Sequence[Call]) -> list[Any]:
        async with pipeline:  # which may be used again afterwards
            for call in calls:
                key = keys.bucket_key(call.bucket)
                fields = (call.fields,) if call.fields else ()
                pipeline.execute_command(
                    "EVALSHA", self._script.sha, 1, key, *fields, *self._arguments
                )
            # Raised by us: redis-py's own message would quote the fields.
            return await pipeline.execute(raise_on_error=False)


def _reworded(error: Exception, bucket: int) -> Exception:
    """Say what went wrong in words of ours: the store's may quote what it was sent."""
    code = error_code(error)
    if isinstance(error, ResponseError) and code in _CODE_TO_CORRUPTION:
        why, _, _ = str(error).removeprefix(f"{code} ").partition(" script:")
        return _CODE_TO_CORRUPTION[code](f"bucket {bucket:x} of the store: a record: {why}")
    if isinstance(error, ResponseError):
        return StoreUnusable(f"the store refuses to write bucket {bucket:x}: {kind_of(error)}")
    return error if isinstance(error, RedisError) else StoreUnusable(type(error).__name__)


_CODE_TO_CORRUPTION = {"CORRUPTRECORD": CorruptRecord, "NEWERRECORD": NewerRecord}
