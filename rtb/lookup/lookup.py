"""
The one wait of the bid path: ask the store what it holds of some ids.

- **It heals by itself.** Reconnecting, greeting and probing run beside the
  bid path, in `run`. While there is no link, a question ends
  before `ask` returns.
- **It trusts no store that it has not looked at.** `seg:1:meta` is read before
  the first question and again with every probe: a store that was emptied, is
  still loading, has another layout, or was started anew and may not have heard
  of the opt-outs of meanwhile answers nothing. Nor does one of which no loader says any
  more that opt-outs reach it (`segments.store.freshness`): that is read with the probes,
  and costs a bid nothing.

The probe is also the clock of a stall. Replies come in the order of questions,
so an answered probe proves that all before it are answered, and one that is not
answered in `probe_s` proves a question older than that: the link is torn down.
A request does not wait for this; its own deadline has long ended it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, cast

import hiredis

from rtb.lookup.freshness import Freshness, note_command
from rtb.lookup.link import (
    MESSAGES,
    NOT_YET,
    Command,
    Link,
    LookupFault,
    OnFound,
    Unfit,
    unfit,
    unfit_by,
)
from rtb.lookup.near_cache.lease import Counts
from segments.runtime.pauses import Backoff
from segments.store.error_code import error_code
from segments.store.keys import FIELD_BYTES, bucket_key, bucket_of, field_of
from segments.store.reader import (
    RUN_COMMAND,
    TRUST_COMMAND,
    Meta,
    StoreUnusable,
    parse_run,
    parse_trusted,
)

# HGET as the protocol has it, in four pieces: up to the key, the key, up to the field, the field.
# Joined, they cost a third of what formatting does. Keys differ in length, and so do their heads.
_HGETS: Final = [b"*3\r\n$4\r\nHGET\r\n$%d\r\n" % size for size in range(64)]
_FIELD: Final = b"\r\n$%d\r\n" % FIELD_BYTES
_END: Final = b"\r\n"

_NOTE_COMMAND: Final = note_command()

_PAUSES: Final = Backoff(0.02, 1.0)
_STEADY_AFTER_S: Final = 1.0
"""A link that held so long was a good one: the next pause is the first again."""


Dial = Callable[[Callable[[], asyncio.Protocol]], Awaitable[None]]
"""Opens a connection whose protocol the given function makes; raises OSError."""

IsCurrent = Callable[[Link], Awaitable[bool]]
"""Tells whether a link leads to whom it should lead now; may raise Unfit."""


@dataclass(frozen=True)
class LookupOptions:
    """How a lookup deals with the servers that it talks to."""

    greeting: tuple[Command, ...]
    """What a new connection says first: AUTH, SELECT."""

    rng: Random
    """Spreads the reconnects of many workers."""

    on_round_trip: Callable[[int], None]
    """See `Link`."""

    on_bug: Callable[[Exception], None]
    """See `Link`."""

    probe_s: float = 0.5
    """How long a server may be silent, and how often it is probed."""

    opt_outs_max_age_s: float = 0.0
    """How long ago a loader may have said that every opt-out is in; 0: it does not matter."""

    max_waiting: int = 20_000
    """How many questions to a server may be without a reply."""


class Lookup:
    """
    The link to the store, for as long as the process lives.

    Args:
        dial: Opens a connection.
        options: Of the link.
        is_current: Asked with every probe, where there is somebody to ask.

    Attributes:
        fault: Why nothing can be asked now; `None` while it can.
        message: The same in words, with what to do; also of a part of the store alone.
        counts: What a near cache has done, if there is one before it.
    """

    def __init__(
        self, dial: Dial, options: LookupOptions, is_current: IsCurrent | None = None
    ) -> None:
        self.fault: LookupFault | None = LookupFault.UNREACHABLE
        self.message = MESSAGES[LookupFault.UNREACHABLE]
        self.counts = Counts()
        self._dial = dial
        self._options = options
        self._probe_s = options.probe_s
        self._max_waiting = options.max_waiting
        self._link: Link | None = None
        self._bucket_bits = 0
        self._run = b""  # of the server at the other end
        self._freshness = Freshness(options.opt_outs_max_age_s)
        self._is_current = is_current
        self._clock_s = time.monotonic

    def ask(self, ids: tuple[bytes, ...], on_found: OnFound) -> None:
        """
        Ask what the store holds of these ids.

        Args:
            ids: One or more, all of one request.
            on_found: Called once, with what was found or why nothing can be
                said. Before `ask` returns if there is no link to ask.
        """
        link = self._link
        if link is None or link.ended.done():
            on_found(self.fault or LookupFault.LOST)
            return
        waiting = link.waiting
        if len(waiting) >= self._max_waiting:
            on_found(LookupFault.BUSY)
            return
        unsent = link.unsent
        if not unsent:
            link.call_soon(link.flush)
        bits = self._bucket_bits
        for id_ in ids:
            unsent.append(hget(bucket_key(bucket_of(id_, bits)), id_))
        waiting.append((len(ids), on_found))

    def flush(self) -> None:
        """Write what was asked now, instead of at the end of this turn of the event loop."""
        if self._link is not None:
            self._link.flush()

    async def run(self) -> None:
        """Keep the link up, for ever; ends only by being cancelled."""
        loop = asyncio.get_running_loop()
        failures = 0
        link: Link | None = None
        try:
            while True:
                began_at_s = loop.time()
                try:
                    link = await self._connect()
                    await self._watch(link)
                except Unfit as unfit:
                    self.fault, self.message = unfit.fault, str(unfit)
                if link is not None:
                    self._link = None
                    link.end(self.fault or LookupFault.LOST)
                if loop.time() - began_at_s > _STEADY_AFTER_S:
                    failures = 0
                failures += 1
                spread = 0.5 + self._options.rng.random()
                await asyncio.sleep(_PAUSES.after(failures) * spread)
        finally:
            self._link = None
            if link is not None:
                link.end(LookupFault.LOST)

    async def _connect(self) -> Link:
        link = Link(self._options.on_round_trip, self._options.on_bug)
        try:
            async with asyncio.timeout(self._probe_s):
                await self._dial(lambda: cast("asyncio.Protocol", link))
                meta = await self._greet(link, self._options.greeting)
                await self._greeted(link, meta)
        except (OSError, TimeoutError) as error:
            link.end(LookupFault.UNREACHABLE)
            # By its kind only: the text may hold an address.
            raise unfit(LookupFault.UNREACHABLE, type(error).__name__) from None
        except BaseException:
            link.end(LookupFault.UNREACHABLE)
            raise
        self._bucket_bits = meta.bucket_bits
        self._admit(link)
        return link

    async def _watch(self, link: Link) -> None:
        """Probe a link until it is of no use any more."""
        while True:
            left_s = self._freshness.left_s(self._clock_s())
            pause_s = min(self._probe_s, left_s) if left_s > 0 else self._probe_s
            await asyncio.wait((link.ended,), timeout=pause_s)
            if link.ended.done():
                raise unfit(link.ended.result())
            run = self._run
            try:
                async with asyncio.timeout(self._probe_s):
                    meta = await self._greet(link, ())
            except TimeoutError:
                raise unfit(LookupFault.STALLED) from None
            if self._run != run:
                raise unfit(LookupFault.UNUSABLE, "its server has changed its part")
            if self._is_current is not None and not await self._is_current(link):
                raise unfit(LookupFault.UNUSABLE, "another server has taken its place")
            # Another number means another store behind the same address.
            self._bucket_bits = meta.bucket_bits
            self._admit(link)
            try:
                async with asyncio.timeout(self._probe_s):
                    await self._probed(link, meta)
            except TimeoutError:
                raise unfit(LookupFault.STALLED) from None

    async def _greet(self, link: Link, greeting: Sequence[Command]) -> Meta:
        """Ask a server who it is, and whether it can be trusted."""
        commands = (*greeting, RUN_COMMAND, _NOTE_COMMAND, TRUST_COMMAND)
        *_, said, number, _ = replies = await replies_of(link, commands)
        if not isinstance(said, bytes):
            raise unfit(LookupFault.UNUSABLE, "its reply to INFO is not text")
        try:
            self._run = parse_run(said)
        except StoreUnusable as unusable:
            raise unfit(LookupFault.UNUSABLE, str(unusable)) from None
        self._freshness.take(self._run, number, self._clock_s())
        return _trusted(replies, self._run)

    def _admit(self, link: Link) -> None:
        """Have bids ask by a link, unless opt-outs may not have reached its server."""
        if self._freshness.left_s(self._clock_s()) > 0:
            self._link = link
            self.fault, self.message = None, ""
        else:
            self._link = None
            self.fault = LookupFault.OPT_OUTS_STALE
            self.message = MESSAGES[LookupFault.OPT_OUTS_STALE]

    async def _greeted(self, link: Link, meta: Meta) -> None:
        """Do what else a new link needs before the first question; here: nothing."""

    async def _probed(self, link: Link, meta: Meta) -> None:
        """Do what else is due now and then; here: nothing."""


def hget(key: bytes, id_: bytes) -> bytes:
    """Return the question for an id in the bucket of that key, as the protocol has it."""
    return b"".join((_HGETS[len(key)], key, _FIELD, field_of(id_), _END))


async def replies_of(link: Link, commands: Sequence[Command]) -> list[object]:
    """
    Ask something else than what it holds of ids.

    Raises:
        Unfit: It answers with an error.
    """
    replies = await link.call(commands)
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            code = error_code(reply)
            fault = LookupFault.LOADING if code in NOT_YET else LookupFault.UNUSABLE
            raise unfit(fault, f"it says {code}")
    return replies


def _trusted(replies: Sequence[object], run: bytes) -> Meta:
    reply = replies[-1]
    if not isinstance(reply, list):
        raise unfit(LookupFault.UNUSABLE, "its reply to HMGET is not a list")
    try:
        return parse_trusted(reply, run)
    except StoreUnusable as unusable:
        raise unfit_by(unusable) from None
