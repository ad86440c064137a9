"""
Sends script calls to the store, a slice a round trip.

A server that has forgotten the script, as after a restart, gets it again, with the failed calls.
Errors are reworded: redis-py quotes the command, the store perhaps the arguments, and both contain
ids.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError, RedisError, ResponseError

from segments.model.record import CorruptRecord, NewerRecord
from segments.store import keys
from segments.store.error_code import error_code, why_refused
from segments.store.reader import StoreRefuses, StoreUnusable
from segments.store.script_calls import Call, slices
from segments.store.scripts import Script
from segments.store.servers.masters import load_script, note_slots, notes_changes


class RoundTrips:
    """Sends calls of a script with the same `arguments`, by a new pipeline unless given one."""

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
        Run all calls, as many at a time as `slices` allows.

        Returns:
            The results, in order.

        Raises:
            CorruptRecord: Names the bucket of the first unreadable record. Earlier calls, and
                others of its slice, were done.
            StoreUnusable: The store refuses a call.
            redis.exceptions.RedisError: The store can't be reached.
        """
        replies = []
        for calls_of_slice in slices(calls):
            replies += await self.run_slice(calls_of_slice)
        return replies

    async def run_slice(self, calls: Sequence[Call]) -> list[Any]:
        """Run these calls in a round trip; otherwise as `run`."""
        replies = await self.try_slice(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def try_slice(self, calls: Sequence[Call]) -> list[Any]:
        """
        Run these calls in a round trip, regardless of failures.

        Returns:
            In order, a result or the error that `run` would raise.
        """
        pipeline = self._pipeline or self._redis.pipeline(transaction=False)
        replies = await self._send(pipeline, calls)
        if any(
            isinstance(reply, Exception) and note_slots(self._redis, reply) for reply in replies
        ):
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
        also = (keys.CHANGES,) if notes_changes(self._redis) else ()
        async with pipeline:
            for call in calls:
                names = (keys.bucket_key(call.bucket), *also)
                fields = (call.fields,) if call.fields else ()
                pipeline.execute_command(
                    "EVALSHA", self._script.sha, len(names), *names, *fields, *self._arguments
                )
            # redis-py's own message would quote fields.
            return await pipeline.execute(raise_on_error=False)


def _reworded(error: Exception, bucket: int) -> Exception:
    code = error_code(error)
    if isinstance(error, ResponseError) and code in _CODE_TO_CORRUPTION:
        why, _, _ = str(error).removeprefix(f"{code} ").partition(" script:")
        return _CODE_TO_CORRUPTION[code](f"bucket {bucket:x} of the store: a record: {why}")
    if isinstance(error, ResponseError):
        return StoreRefuses(f"the store refuses to write bucket {bucket:x}: {why_refused(error)}")
    return error if isinstance(error, RedisError) else StoreUnusable(type(error).__name__)


_CODE_TO_CORRUPTION = {"CORRUPTRECORD": CorruptRecord, "NEWERRECORD": NewerRecord}
