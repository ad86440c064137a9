r"""
One connection to the store: questions out, replies in, in one order.

    ask  ask  ask            one turn of the event loop
       \  |  /
      one write   ------->   store
                               |   replies, in the order of the questions
    each is called back  <-----

- **Callbacks, not tasks.** A question costs an entry in a queue; nothing is
  scheduled or awaited for it. All questions of one turn leave in one write.
- **A fault ends in the questions concerned and in no other.** A wrong reply to
  one id is that question's fault; a callback that raises is counted and the next
  one is called; a lost link ends every question that was on it, at once.

redis-py costs 27-112 µs of CPU per lookup, and a task and a future besides; this
link 1.5-10 µs, the more together the less each.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

import hiredis

from segments.store.reader import LedgerBehind, StoreUnusable

Command = tuple[bytes, ...]
Found = Sequence[bytes | None]
"""What the store holds of each id asked for, in their order; `None`: nothing."""


class LookupFault(StrEnum):
    """Why a question has no answer. Also a metric label and a reason of not being ready."""

    UNREACHABLE = "unreachable"  # no connection
    LOADING = "loading"  # the store still reads its data from disk
    LEDGER_BEHIND = "ledger_behind"  # its ledger is an old copy: see segments.projection.one_ledger
    OPT_OUTS_STALE = "opt_outs_stale"  # no loader says that opt-outs still reach it
    UNUSABLE = "unusable"  # meta missing, another layout, or we may not read it
    LOST = "lost"  # the connection ended
    STALLED = "stalled"  # connected, and silent for longer than a probe may take
    BUSY = "busy"  # more questions unanswered than we take on
    BAD_REPLY = "bad_reply"  # an error, or something other than a record, for one of the ids


OnFound = Callable[[Found | LookupFault], None]


class Unfit(Exception):
    """A connection is of no use; the message says why, and what to do."""

    def __init__(self, fault: LookupFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class Listener:
    """Hears what the store says on a connection unasked; this one does not listen."""

    def pushed(self, push: list[object]) -> None:
        """Take what it said, in its place between the replies: those before it are handed over."""

    def ended(self) -> None:
        """Learn that nothing more will be heard."""


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
        "listener",
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
        self.listener: Listener | None = None
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
            replies.set_exception(unfit(LookupFault.LOST))
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
                if type(reply) is not bytes and reply is not None:
                    if type(reply) is hiredis.PushNotification:
                        self._hear(reply)
                        continue
                    self._is_odd = True
                found = self._found
                found.append(reply)
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
            if not isinstance(on_found, TakesErrors):
                answer = LookupFault.BAD_REPLY
        try:
            on_found(answer)
        except Exception as bug:  # noqa: BLE001 - one request's bug is not the link's end
            self._on_bug(bug)

    def _hear(self, push: list[object]) -> None:
        if self.listener is None:
            return
        try:
            self.listener.pushed(push)
        except Exception as bug:  # noqa: BLE001 - what was missed can't be made up for
            self._on_bug(bug)
            self.end(LookupFault.BAD_REPLY)

    def eof_received(self) -> bool:
        """Let the connection end when the store ends its half; part of `asyncio.Protocol`."""
        return False

    def pause_writing(self) -> None:
        """Go on: how many questions may be without a reply bounds what is buffered."""

    def resume_writing(self) -> None:
        """Go on, as before."""

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
        if self.listener is not None:
            self.listener.ended()
        for _, on_found in self.waiting:
            try:
                on_found(fault)
            except Exception as bug:  # noqa: BLE001 - the others must hear of it too
                self._on_bug(bug)
        self.waiting.clear()


class TakesErrors:
    """Whoever is called back with replies as they are, errors among them."""

    __slots__ = ()

    def __call__(self, answer: Found | LookupFault) -> None:
        """Take what came."""
        raise NotImplementedError


class _Control(TakesErrors):
    """Takes the replies to commands that are no lookups."""

    __slots__ = ("_replies",)

    def __init__(self, replies: "asyncio.Future[list[object]]") -> None:
        self._replies = replies

    def __call__(self, answer: Found | LookupFault) -> None:
        if self._replies.done():
            return  # nobody waits any more: the probe's time was up
        if isinstance(answer, LookupFault):
            self._replies.set_exception(unfit(answer))
        else:
            self._replies.set_result(list(answer))


MESSAGES: Final = {
    LookupFault.UNREACHABLE: "no connection to the store",
    LookupFault.LOADING: "the store is not ready yet",
    LookupFault.LEDGER_BEHIND: "the store is not believed",
    LookupFault.UNUSABLE: "the store can't be read",
    LookupFault.OPT_OUTS_STALE: (
        "no loader says that every opt-out has reached the store: see whether one runs, and"
        " whether it can write there"
    ),
    LookupFault.LOST: "the connection to the store ended",
    LookupFault.STALLED: "the store is connected and does not answer",
    LookupFault.BUSY: "too many questions to the store are unanswered",
    LookupFault.BAD_REPLY: "the store's reply can't be decoded",
}

NOT_YET: Final = frozenset({"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY"})
"""Error codes of a server that is there, and will answer when it, or its cluster, is done."""


def unfit_by(unusable: StoreUnusable) -> Unfit:
    """Say that a connection is of no use for what its store says of itself."""
    is_behind = isinstance(unusable, LedgerBehind)
    return unfit(LookupFault.LEDGER_BEHIND if is_behind else LookupFault.UNUSABLE, str(unusable))


def unfit(fault: LookupFault, detail: str = "") -> Unfit:
    """Say that a connection is of no use, in the words for `fault`."""
    return Unfit(fault, f"{MESSAGES[fault]}: {detail}" if detail else MESSAGES[fault])


def _packed(command: Command) -> bytes:
    # Its stub knows tuples of one element only.
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed
