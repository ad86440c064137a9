r"""
The one wait of the bid path: ask the store what it holds of some ids.

    ask  ask  ask            one turn of the event loop
       \  |  /
      one write   ------->   store
                               |   replies, in the order of the questions
    each is called back  <-----

The laws of this link:

- **Callbacks, not tasks.** A question costs an entry in a queue; nothing is
  scheduled or awaited for it. All questions of one turn leave in one write.
- **A fault ends in the questions concerned and in no other.** A wrong reply to
  one id is that question's fault; a callback that raises is counted and the next
  one is called; a lost link ends every question that was on it, at once.
- **It heals by itself.** Reconnecting, greeting and probing run beside the
  questions, in the one coroutine `run`. While there is no link, a question ends
  before `ask` returns.
- **It trusts no store that it has not looked at.** `seg:1:meta` is read before
  the first question and again with every probe: a store that was emptied, is
  still loading, has another layout, or was started anew and may not have heard
  of the opt-outs of meanwhile answers nothing.

The probe is also the clock of a stall. Replies come in the order of questions,
so an answered probe proves that all before it are answered, and one that is not
answered in `probe_s` proves a question older than that: the link is torn down.
A request does not wait for this; its own deadline has long ended it.

redis-py costs 27-112 µs of CPU per lookup, and a task and a future besides; this
link 1.5-10 µs, the more together the less each.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from random import Random
from typing import Final, cast

import hiredis

from segments.store.keys import FIELD_BYTES, bucket_key, bucket_of, field_of
from segments.store.reader import (
    RUN_COMMAND,
    TRUST_COMMAND,
    Meta,
    StoreUnusable,
    parse_run,
    parse_trusted,
)

Command = tuple[bytes, ...]
Found = Sequence[bytes | None]
"""What the store holds of each id asked for, in their order; `None`: nothing."""

# HGET as the protocol has it, in four pieces: up to the key, the key, up to the field, the field.
# Joined, they cost a third of what formatting does. Keys differ in length, and so do their heads.
_HGETS: Final = [b"*3\r\n$4\r\nHGET\r\n$%d\r\n" % size for size in range(64)]
_FIELD: Final = b"\r\n$%d\r\n" % FIELD_BYTES
_END: Final = b"\r\n"

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_STEADY_AFTER_S: Final = 1.0
"""A link that held so long was a good one: the next pause is the first again."""


class LookupFault(StrEnum):
    """Why a question has no answer. Also a metric label and a reason of not being ready."""

    UNREACHABLE = "unreachable"  # no connection
    LOADING = "loading"  # the store still reads its data from disk
    UNUSABLE = "unusable"  # meta missing, another layout, or we may not read it
    LOST = "lost"  # the connection ended
    STALLED = "stalled"  # connected, and silent for longer than a probe may take
    BUSY = "busy"  # more questions unanswered than we take on
    BAD_REPLY = "bad_reply"  # an error, or something other than a record, for one of the ids


OnFound = Callable[[Found | LookupFault], None]


class _Unfit(Exception):
    """This connection is of no use; the message says why, and what to do."""

    def __init__(self, fault: LookupFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class Link:
    """
    One connection: a queue of questions and the parser of their replies.

    An `asyncio.Protocol` in all but its base: a compiled class with an
    interpreted base looks its own fields up by name.

    Args:
        on_round_trip: Called with the number of ids of each write.
        on_bug: Called with what a callback raised.
    """

    __slots__ = (
        "_found",
        "_is_odd",
        "_on_bug",
        "_on_round_trip",
        "_reader",
        "_transport",
        "call_soon",
        "ended",
        "unsent",
        "waiting",
    )

    def __init__(
        self,
        on_round_trip: Callable[[int], None],
        on_bug: Callable[[Exception], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.call_soon = loop.call_soon
        self.unsent: list[bytes] = []
        self.waiting: deque[tuple[int, OnFound]] = deque()
        self.ended: asyncio.Future[LookupFault] = loop.create_future()
        self._reader = hiredis.Reader()
        self._found: list[bytes | None] = []
        self._is_odd = False
        self._transport: asyncio.Transport | None = None
        self._on_round_trip = on_round_trip
        self._on_bug = on_bug

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; part of `asyncio.Protocol`."""
        self._transport = transport  # type: ignore[assignment] # a stream's, by contract

    def call(self, commands: Sequence[Command]) -> "asyncio.Future[list[object]]":
        """Send commands that are no lookups; the future's replies include errors, as values."""
        replies: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        if self._transport is None:
            replies.set_exception(_unfit(LookupFault.LOST))
            return replies
        self.flush()
        self._transport.write(b"".join([_packed(command) for command in commands]))
        self.waiting.append((len(commands), _Control(replies)))
        return replies

    def flush(self) -> None:
        """Write what was asked in this turn of the event loop."""
        parts = self.unsent
        if parts and self._transport is not None:
            self._transport.write(b"".join(parts))
            self._on_round_trip(len(parts))
        self.unsent = []

    def data_received(self, data: bytes) -> None:
        """Hand each reply to whom it is for."""
        reader = self._reader
        gets = reader.gets
        waiting = self.waiting
        try:
            reader.feed(data)
            while (reply := gets()) is not False:
                found = self._found
                found.append(reply)
                if type(reply) is not bytes and reply is not None:
                    self._is_odd = True
                if not waiting:
                    raise hiredis.ProtocolError("a reply to no question")
                if len(found) == waiting[0][0]:
                    self._hand_over()
        except hiredis.ProtocolError:
            # From here on we can't tell which reply is whose.
            self.end(LookupFault.BAD_REPLY)

    def _hand_over(self) -> None:
        answer: Found | LookupFault = self._found
        self._found = []
        _, on_found = self.waiting.popleft()
        if self._is_odd:
            self._is_odd = False
            # WRONGTYPE, say: only who asked for this id is concerned.
            if type(on_found) is not _Control:
                answer = LookupFault.BAD_REPLY
        try:
            on_found(answer)
        except Exception as bug:  # noqa: BLE001 - one request's bug is not the link's end
            self._on_bug(bug)

    def connection_lost(self, exc: Exception | None) -> None:
        """End every question that is still without its reply."""
        self.end(LookupFault.LOST)

    def end(self, fault: LookupFault) -> None:
        """Tear the connection down; what is unanswered ends with `fault`."""
        if self.ended.done():
            return
        self.ended.set_result(fault)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        for _, on_found in self.waiting:
            try:
                on_found(fault)
            except Exception as bug:  # noqa: BLE001 - the others must hear of it too
                self._on_bug(bug)
        self.waiting.clear()


class _Control:
    """Takes the replies to commands that are no lookups."""

    __slots__ = ("_replies",)

    def __init__(self, replies: "asyncio.Future[list[object]]") -> None:
        self._replies = replies

    def __call__(self, answer: Found | LookupFault) -> None:
        if self._replies.done():
            return  # nobody waits any more: the probe's time was up
        if isinstance(answer, LookupFault):
            self._replies.set_exception(_unfit(answer))
        else:
            self._replies.set_result(list(answer))


Dial = Callable[[Callable[[], asyncio.Protocol]], Awaitable[None]]
"""Opens a connection whose protocol the given function makes; raises OSError."""


class Lookup:
    """
    The link to the store, for as long as the process lives.

    Args:
        dial: Opens a connection.
        greeting: What a new connection says first: AUTH, SELECT.
        rng: Spreads the reconnects of many workers.
        on_round_trip: See `Link`.
        on_bug: See `Link`.
        probe_s: How long the store may be silent, and how often it is probed.
        max_waiting: How many questions may be without a reply.
    """

    def __init__(
        self,
        dial: Dial,
        greeting: Sequence[Command],
        *,
        rng: Random,
        on_round_trip: Callable[[int], None],
        on_bug: Callable[[Exception], None],
        probe_s: float = 0.5,
        max_waiting: int = 20_000,
    ) -> None:
        self.fault: LookupFault | None = LookupFault.UNREACHABLE
        self.message = _MESSAGES[LookupFault.UNREACHABLE]
        self._dial = dial
        self._greeting = tuple(greeting)
        self._rng = rng
        self._on_round_trip = on_round_trip
        self._on_bug = on_bug
        self._probe_s = probe_s
        self._max_waiting = max_waiting
        self._link: Link | None = None
        self._bucket_bits = 0
        self._run = b""  # of the server at the other end

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
            key = bucket_key(bucket_of(id_, bits))
            unsent.append(b"".join((_HGETS[len(key)], key, _FIELD, field_of(id_), _END)))
        waiting.append((len(ids), on_found))

    def flush(self) -> None:
        """Write what was asked now, instead of at the end of this turn of the event loop."""
        if self._link is not None:
            self._link.flush()

    async def run(self) -> None:
        """Keep the link up, for ever; ends only by being cancelled."""
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        link: Link | None = None
        try:
            while True:
                began_at_s = loop.time()
                try:
                    link = await self._connect()
                    await self._watch(link)
                except _Unfit as unfit:
                    self.fault, self.message = unfit.fault, str(unfit)
                if link is not None:
                    self._link = None
                    link.end(self.fault or LookupFault.LOST)
                if loop.time() - began_at_s > _STEADY_AFTER_S:
                    pause_s = _FIRST_PAUSE_S
                await asyncio.sleep(pause_s * (0.5 + self._rng.random()))
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        finally:
            self._link = None
            if link is not None:
                link.end(LookupFault.LOST)

    async def _connect(self) -> Link:
        link = Link(self._on_round_trip, self._on_bug)
        try:
            async with asyncio.timeout(self._probe_s):
                await self._dial(lambda: cast("asyncio.Protocol", link))
                meta, run = await _greet(link, self._greeting)
        except (OSError, TimeoutError) as error:
            link.end(LookupFault.UNREACHABLE)
            # By its kind only: the text may hold an address.
            raise _unfit(LookupFault.UNREACHABLE, type(error).__name__) from None
        except BaseException:
            link.end(LookupFault.UNREACHABLE)
            raise
        self._bucket_bits = meta.bucket_bits
        self._run = run
        self._link = link
        self.fault, self.message = None, ""
        return link

    async def _watch(self, link: Link) -> None:
        """Probe a link until it is of no use any more."""
        while True:
            await asyncio.wait((link.ended,), timeout=self._probe_s)
            if link.ended.done():
                raise _unfit(link.ended.result())
            try:
                async with asyncio.timeout(self._probe_s):
                    meta = _trusted(await _replies(link, (TRUST_COMMAND,)), self._run)
            except TimeoutError:
                raise _unfit(LookupFault.STALLED) from None
            # Another number means another store behind the same address.
            self._bucket_bits = meta.bucket_bits


async def _greet(link: Link, greeting: Sequence[Command]) -> tuple[Meta, bytes]:
    *_, said, _ = replies = await _replies(link, (*greeting, RUN_COMMAND, TRUST_COMMAND))
    if not isinstance(said, bytes):
        raise _unfit(LookupFault.UNUSABLE, "its reply to INFO is not text")
    try:
        run = parse_run(said)
    except StoreUnusable as unusable:
        raise _unfit(LookupFault.UNUSABLE, str(unusable)) from None
    return _trusted(replies, run), run


async def _replies(link: Link, commands: Sequence[Command]) -> list[object]:
    replies = await link.call(commands)
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            # The first word is the code; the rest may quote what we sent.
            code = str(reply).partition(" ")[0]
            fault = LookupFault.LOADING if code in _NOT_YET else LookupFault.UNUSABLE
            raise _unfit(fault, f"it says {code}")
    return replies


def _trusted(replies: Sequence[object], run: bytes) -> Meta:
    reply = replies[-1]
    if not isinstance(reply, list):
        raise _unfit(LookupFault.UNUSABLE, "its reply to HMGET is not a list")
    try:
        return parse_trusted(reply, run)
    except StoreUnusable as unusable:
        raise _unfit(LookupFault.UNUSABLE, str(unusable)) from None


_NOT_YET: Final = frozenset({"LOADING", "MASTERDOWN", "BUSY"})
"""Error codes of a store that is there, and will answer when it is done."""

_MESSAGES: Final = {
    LookupFault.UNREACHABLE: "no connection to the store",
    LookupFault.LOADING: "the store is not ready yet",
    LookupFault.UNUSABLE: "the store can't be read",
    LookupFault.LOST: "the connection to the store ended",
    LookupFault.STALLED: "the store is connected and does not answer",
    LookupFault.BUSY: "too many questions to the store are unanswered",
    LookupFault.BAD_REPLY: "the store's reply can't be decoded",
}


def _unfit(fault: LookupFault, detail: str = "") -> _Unfit:
    return _Unfit(fault, f"{_MESSAGES[fault]}: {detail}" if detail else _MESSAGES[fault])


def _packed(command: Command) -> bytes:
    # Its stub knows tuples of one element only.
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed
