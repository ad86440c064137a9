"""
The only wait of the bid path: a lookup of some ids in the store.

- **Recovery is automatic.** `run` reconnects, greets and probes. Without a link, a question ends
  before `ask` returns.
- **Trust needs a check.** Before the first question and with every probe, the link reads
  `seg:1:meta` and asks for a record as bids do. A store answers nothing if emptied, still loading,
  forbidden to us, of another layout, or restarted, perhaps without recent opt-outs; nor once no
  loader confirms that opt-outs reach it (`segments.store.freshness`). Bids pay nothing for these
  checks.

Without a reply to the probe within `probe_s`, a stall, the link is torn down; replies come in
order. Requests' own deadlines end first; after these, a silent link is not asked until its next
byte.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final, cast

import hiredis

from rtb.lookup.awake_timeout import AwakeTimeout
from rtb.lookup.freshness import Freshness, note_command
from rtb.lookup.link import (
    MESSAGES,
    Command,
    Link,
    LookupFault,
    OnFound,
    Unfit,
    may_not,
    refused,
    unfit,
    unfit_by,
)
from rtb.lookup.near_cache.lease import Counts
from segments.runtime.pauses import Backoff
from segments.store.keys import FIELD_BYTES, bucket_key, bucket_of, field_of
from segments.store.reader import (
    RECORD_COMMAND,
    RUN_COMMAND,
    TRUST_COMMAND,
    Meta,
    StoreUnusable,
    parse_run,
    parse_trusted,
)

if TYPE_CHECKING:
    from segments.store.error_code import Refusal

# HGET in RESP: up to the key (selected by its length), key, up to the field, field. A join costs a
# third of formatting.
_HGETS: Final = [b"*3\r\n$4\r\nHGET\r\n$%d\r\n" % size for size in range(64)]
_FIELD: Final = b"\r\n$%d\r\n" % FIELD_BYTES
_END: Final = b"\r\n"

_NOTE_COMMAND: Final = note_command()

_PAUSES: Final = Backoff(0.02, 1.0)
_STEADY_AFTER_S: Final = 1.0
"""Of a link; then the backoff is reset."""


Dial = Callable[[Callable[[], asyncio.Protocol]], Awaitable[None]]
"""Opens a connection with the protocol made by the function; raises OSError."""

IsCurrent = Callable[[Link], Awaitable[bool]]
"""Tells whether a link still leads to the right server; may raise Unfit."""


@dataclass(frozen=True)
class LookupOptions:
    """How a lookup treats the servers that it talks to."""

    greeting: tuple[Command, ...]
    """The first commands on a new connection: AUTH, SELECT."""

    rng: Random
    """Spreads the reconnects of many workers."""

    on_round_trip: Callable[[int], None]
    """See `Link`."""

    on_bug: Callable[[Exception], None]
    """See `Link`."""

    probe_s: float = 0.5
    """Interval of probes, and limit of a server's silence."""

    opt_outs_max_age_s: float = 0.0
    """Of a loader's word that every opt-out is in; 0: no limit."""

    max_waiting: int = 20_000
    """The limit of unanswered questions to a server."""

    silent_after_s: float = 0.02
    """The longest time of a bid: see `Link.judge_silence`."""


class Lookup:
    """
    The link to the store, for the life of the process.

    Args:
        dial: Opens a connection.
        options: Of the link.
        is_current: Called with every probe; `None`: not needed.

    Attributes:
        fault: Why the store can't be asked now; `None` while it can.
        message: Reason and remedy in words; also set if only part of the store fails.
        refusal: The store's error code and the command, if any.
        is_unfilled: The store came back empty, and is still unfilled.
        counts: The near cache's counters, if there is a cache.
    """

    def __init__(
        self, dial: Dial, options: LookupOptions, is_current: IsCurrent | None = None
    ) -> None:
        self.fault: LookupFault | None = LookupFault.UNREACHABLE
        self.message = MESSAGES[LookupFault.UNREACHABLE]
        self.refusal: Refusal | None = None
        self.is_unfilled = False
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
        Look up the records of these ids.

        Args:
            ids: At least one, all of one request.
            on_found: Called once, with records or a fault; without a link, before `ask` returns.
        """
        link = self._link
        if link is None or link.ended.done():
            on_found(self.fault or LookupFault.LOST)
            return
        if link.is_silent:
            on_found(LookupFault.STALLED)
            return
        if len(link.waiting) >= self._max_waiting:
            on_found(LookupFault.BUSY)
            return
        unsent = link.unsent
        if not unsent:
            link.call_soon(link.flush)
        bits = self._bucket_bits
        for id_ in ids:
            unsent.append(hget(bucket_key(bucket_of(id_, bits)), id_))
        link.expect(len(ids), on_found)

    def note_late(self) -> None:
        """Learn that a bid's time has passed without a reply."""
        if self._link is not None:
            self._link.judge_silence(self._options.silent_after_s)

    def flush(self) -> None:
        """Write pending questions now, not at the turn's end."""
        if self._link is not None:
            self._link.flush()

    async def run(self) -> None:
        """Keep the link up until cancelled."""
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
                    self.refusal = unfit.refusal
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
            async with AwakeTimeout(self._probe_s):
                await self._dial(lambda: cast("asyncio.Protocol", link))
                meta = await self._greet(link, self._options.greeting)
                await self._greeted(link, meta)
        except (OSError, TimeoutError) as error:
            link.end(LookupFault.UNREACHABLE)
            # The text may hold an address.
            raise unfit(LookupFault.UNREACHABLE, type(error).__name__) from None
        except BaseException:
            link.end(LookupFault.UNREACHABLE)
            raise
        self._take(meta)
        self._admit(link)
        return link

    async def _watch(self, link: Link) -> None:
        """Probe a link until it is unfit."""
        while True:
            left_s = self._freshness.left_s(self._clock_s())
            pause_s = min(self._probe_s, left_s) if left_s > 0 else self._probe_s
            await asyncio.wait((link.ended,), timeout=pause_s)
            if link.ended.done():
                raise unfit(link.ended.result())
            run = self._run
            try:
                async with AwakeTimeout(self._probe_s):
                    meta = await self._greet(link, ())
            except TimeoutError:
                raise unfit(LookupFault.STALLED) from None
            if self._run != run:
                raise unfit(LookupFault.UNUSABLE, "its server has changed its part")
            if self._is_current is not None and not await self._is_current(link):
                raise unfit(LookupFault.UNUSABLE, "another server has taken its place")
            # Other bucket bits: another store at this address.
            self._take(meta)
            self._admit(link)
            try:
                async with AwakeTimeout(self._probe_s):
                    await self._probed(link, meta)
            except TimeoutError:
                raise unfit(LookupFault.STALLED) from None

    async def _greet(self, link: Link, greeting: Sequence[Command]) -> Meta:
        """Ask a server for its run, and check that it can be trusted."""
        # Longest last: without a login, Redis closes the connection after it.
        commands = (*greeting, RUN_COMMAND, _NOTE_COMMAND, RECORD_COMMAND, TRUST_COMMAND)
        *_, said, number, _, trust = await replies_of(link, commands)
        if not isinstance(said, bytes):
            raise unfit(LookupFault.UNUSABLE, "its reply to INFO is not text")
        try:
            self._run = parse_run(said)
        except StoreUnusable as unusable:
            raise unfit(LookupFault.UNUSABLE, str(unusable)) from None
        self._freshness.take(self._run, number, self._clock_s())
        return _trusted(trust, self._run)

    def _take(self, meta: Meta) -> None:
        self._bucket_bits = meta.bucket_bits
        self.is_unfilled = meta.is_unfilled

    def _admit(self, link: Link) -> None:
        """Open a link to bids, unless its server may lack opt-outs."""
        self.refusal = None
        if self._freshness.left_s(self._clock_s()) > 0:
            self._link = link
            self.fault, self.message = None, ""
        else:
            self._link = None
            self.fault = LookupFault.OPT_OUTS_STALE
            self.message = MESSAGES[LookupFault.OPT_OUTS_STALE]

    async def _greeted(self, link: Link, meta: Meta) -> None:
        """Prepare a new link further before its first question; a hook."""

    async def _probed(self, link: Link, meta: Meta) -> None:
        """Do periodic work after a probe; a hook."""


def hget(key: bytes, id_: bytes) -> bytes:
    """Return the question for an id in the bucket of that key, in RESP."""
    return b"".join((_HGETS[len(key)], key, _FIELD, field_of(id_), _END))


async def replies_of(link: Link, commands: Sequence[Command]) -> list[object]:
    """
    Send commands other than lookups.

    `RECORD_COMMAND` only checks a permission: its other errors are ignored.

    Raises:
        Unfit: The server replies with an error.
    """
    replies = await link.call(commands)
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, hiredis.ReplyError) and (command != RECORD_COMMAND or may_not(reply)):
            raise refused(reply, name_of(command))
    return replies


def name_of(command: Command) -> str:
    """Return a command's name: one word, two of a container command."""
    of_subject = command[0] in (b"CLUSTER", b"CLIENT")
    return b" ".join(command[: 1 + of_subject]).decode()


def _trusted(reply: object, run: bytes) -> Meta:
    if not isinstance(reply, list):
        raise unfit(LookupFault.UNUSABLE, "its reply to HMGET is not a list")
    try:
        return parse_trusted(reply, run)
    except StoreUnusable as unusable:
        raise unfit_by(unusable) from None
