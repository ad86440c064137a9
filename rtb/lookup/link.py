r"""
A connection to the store: questions out and replies in, in the same order.

    ask  ask  ask            one turn of the event loop
       \  |  /
      one write   ------->   store
                               |   replies, in the order of the questions
    a callback each      <-----

- **Callbacks, not tasks.** A question is an entry in a queue, neither scheduled nor awaited. A
  turn's questions leave in one write.
- **A fault ends only its own questions.** A wrong reply is its question's fault. A callback that
  raises is counted. A lost link ends all its questions.
- **Silence is noticed.** With questions unanswered and nothing heard for the longest deadline of a
  bid, the link is silent until its next byte. A silent link is not asked: each bid would wait its
  whole time in vain, and the client's other bids behind it. A reply that this process had no time
  to read is not silence.

A lookup costs 1.5-10 µs of CPU, less the more questions share a write; with redis-py 27-112 µs,
plus a task and a future.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, TypeGuard

import hiredis

from segments.store.error_code import Refusal, error_code
from segments.store.reader import LedgerBehind, StoreUnusable

Command = tuple[bytes, ...]
Found = Sequence[bytes | None]
"""The record of each id, in order; `None`: no record."""


class LookupFault(StrEnum):
    """Why a question has no answer; also a metric label and a reason of unreadiness."""

    UNREACHABLE = "unreachable"  # no connection
    LOADING = "loading"  # the store still reads its data from disk, or is busy
    NOPERM = "noperm"  # the store's user lacks a permission
    NOAUTH = "noauth"  # the URL lacks a password
    WRONGPASS = "wrongpass"  # the password is wrong
    MASTERDOWN = "masterdown"  # a replica without its master
    CLUSTERDOWN = "clusterdown"  # of a Cluster, a slot has no master
    REFUSED = "refused"  # another error; the message has its code
    LEDGER_BEHIND = "ledger_behind"  # its ledger is an old copy: see segments.projection.one_ledger
    OPT_OUTS_STALE = "opt_outs_stale"  # no loader confirms that opt-outs still reach the store
    UNUSABLE = "unusable"  # meta missing, another layout, or we may not read it
    LOST = "lost"  # the connection ended
    STALLED = "stalled"  # connected, and silent for longer than a bid or a probe may take
    BUSY = "busy"  # too many questions unanswered
    BAD_REPLY = "bad_reply"  # an error, or something other than a record, for an id


OnFound = Callable[[Found | LookupFault], None]


class Unfit(Exception):
    """
    A connection is unfit; the message has reason and remedy.

    Args:
        fault: The reason.
        message: In words.
        refusal: The store's error, if any, and the command.
    """

    def __init__(self, fault: LookupFault, message: str, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.refusal = refusal


class Listener:
    """Hears a connection's push messages; this base class ignores them."""

    def pushed(self, push: list[object]) -> None:
        """Take a push, after all earlier replies."""

    def ended(self) -> None:
        """Learn that no further push will come."""


class Link:
    """
    A connection: a queue of questions and the parser of their replies.

    An `asyncio.Protocol` without that base: compiled classes with an interpreted base look up
    fields by name.

    Args:
        on_round_trip: Called with the number of ids of each write.
        on_bug: Called with a callback's exception.

    Attributes:
        unsent: Questions of this turn, in RESP.
        waiting: Of each unanswered question, the number of its replies and their taker.
        is_silent: Whether it is not worth asking; see `judge_silence`.
    """

    __slots__ = (
        "_doubted_s",
        "_found",
        "_heard_s",
        "_is_odd",
        "_on_bug",
        "_on_round_trip",
        "_reader",
        "_transport",
        "call_soon",
        "ended",
        "is_silent",
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
        self.is_silent = False
        self._heard_s = 0.0  # the last byte, or the first question after all replies
        self._doubted_s = -1.0  # the `_heard_s` of a silence that is not confirmed yet
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
        """Send commands other than lookups; the replies include errors, as values."""
        replies: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        if self._transport is None:
            replies.set_exception(unfit(LookupFault.LOST))
            return replies
        self.flush()
        self._transport.write(b"".join([_packed(command) for command in commands]))
        self.expect(len(commands), _Control(replies))
        return replies

    def expect(self, replies: int, taker: OnFound) -> None:
        """Note that a question was sent, or is in `unsent`."""
        waiting = self.waiting
        if not waiting:
            self._heard_s = time.monotonic()
        waiting.append((replies, taker))

    def judge_silence(self, for_s: float) -> None:
        """
        Notice a silence of so long; to be called when a bid's time has passed.

        A loop that stood still runs its timers before it reads: so the silence is confirmed after
        the next reading, which comes between the two turns.
        """
        heard_s = self._heard_s
        if (
            self.waiting
            and heard_s != self._doubted_s
            and not self.is_silent
            and time.monotonic() - heard_s >= for_s
        ):
            self._doubted_s = heard_s
            self.call_soon(self._confirm_later)

    def _confirm_later(self) -> None:
        self.call_soon(self._confirm_silence)

    def _confirm_silence(self) -> None:
        if self.waiting and self._heard_s == self._doubted_s:
            self.is_silent = True
        self._doubted_s = -1.0

    def flush(self) -> None:
        """Write the questions of this turn of the event loop."""
        parts = self.unsent
        if parts and self._transport is not None:
            self._transport.write(b"".join(parts))
            self._on_round_trip(len(parts))
        self.unsent = []

    def data_received(self, data: bytes) -> None:
        """Hand each reply to its question's callback."""
        reader = self._reader
        gets = reader.gets
        waiting = self.waiting
        self._heard_s = time.monotonic()
        self.is_silent = False
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
            # Later replies can't be matched to questions.
            self.end(LookupFault.BAD_REPLY)

    def _hand_over(self) -> None:
        answer: Found | LookupFault = self._found
        self._found = []
        _, on_found = self.waiting.popleft()
        if self._is_odd:
            self._is_odd = False
            # Such as WRONGTYPE: concerns only this id.
            if not isinstance(on_found, TakesErrors):
                answer = _fault_among(answer)
        try:
            on_found(answer)
        except Exception as bug:  # noqa: BLE001 - a request's bug must not end the link
            self._on_bug(bug)

    def _hear(self, push: list[object]) -> None:
        if self.listener is None:
            return
        try:
            self.listener.pushed(push)
        except Exception as bug:  # noqa: BLE001 - a missed push can't be made up for
            self._on_bug(bug)
            self.end(LookupFault.BAD_REPLY)

    def eof_received(self) -> bool:
        """Close when the store closes its half; part of `asyncio.Protocol`."""
        return False

    def pause_writing(self) -> None:
        """Keep writing: unanswered questions are bounded."""

    def resume_writing(self) -> None:
        """Do nothing: writing never paused."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End every unanswered question."""
        self.end(LookupFault.LOST)

    def end(self, fault: LookupFault) -> None:
        """Tear the connection down, and end unanswered questions with `fault`."""
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
    """A callback that takes raw replies, errors included."""

    __slots__ = ()

    def __call__(self, answer: Found | LookupFault) -> None:
        """Take the replies."""
        raise NotImplementedError


class _Control(TakesErrors):
    """Takes the replies to commands other than lookups."""

    __slots__ = ("_replies",)

    def __init__(self, replies: "asyncio.Future[list[object]]") -> None:
        self._replies = replies

    def __call__(self, answer: Found | LookupFault) -> None:
        if self._replies.done():
            return  # the caller's probe has timed out
        if isinstance(answer, LookupFault):
            self._replies.set_exception(unfit(answer))
        else:
            self._replies.set_result(list(answer))


MESSAGES: Final = {
    LookupFault.UNREACHABLE: "no connection to the store",
    LookupFault.LOADING: "the store is not ready yet",
    LookupFault.LEDGER_BEHIND: "the store is not trusted",
    LookupFault.UNUSABLE: "the store can't be read",
    LookupFault.NOPERM: "the store refuses",
    LookupFault.NOAUTH: "the store refuses",
    LookupFault.WRONGPASS: "the store refuses",
    LookupFault.MASTERDOWN: "the store is not ready",
    LookupFault.CLUSTERDOWN: "the store is not ready",
    LookupFault.REFUSED: "the store refuses",
    LookupFault.OPT_OUTS_STALE: (
        "no loader says that every opt-out has reached the store: see whether one runs, and"
        " whether it can write there"
    ),
    LookupFault.LOST: "the connection to the store ended",
    LookupFault.STALLED: "the store is connected and does not answer",
    LookupFault.BUSY: "too many questions to the store are unanswered",
    LookupFault.BAD_REPLY: "the store's reply can't be decoded",
}

_CODE_TO_FAULT: Final = {
    "LOADING": LookupFault.LOADING,
    "TRYAGAIN": LookupFault.LOADING,
    "BUSY": LookupFault.LOADING,
    "MASTERDOWN": LookupFault.MASTERDOWN,
    "CLUSTERDOWN": LookupFault.CLUSTERDOWN,
    "NOPERM": LookupFault.NOPERM,
    "NOAUTH": LookupFault.NOAUTH,
    "WRONGPASS": LookupFault.WRONGPASS,
}
"""Of the server as a whole; others concern a single question."""


def refused(error: hiredis.ReplyError, command: str) -> Unfit:
    """Return the `Unfit` for a server's error to a command."""
    refusal = Refusal(error_code(error), command)
    fault = _CODE_TO_FAULT.get(refusal.code, LookupFault.REFUSED)
    return Unfit(fault, f"{MESSAGES[fault]}: {refusal.with_cure}", refusal)


def may_not(reply: object) -> TypeGuard[hiredis.ReplyError]:
    """Tell whether a reply denies the store's user the command."""
    return isinstance(reply, hiredis.ReplyError) and error_code(reply) == "NOPERM"


def fault_of_record(error: hiredis.ReplyError) -> LookupFault:
    """Return the fault for an error that came in place of a record."""
    return _CODE_TO_FAULT.get(error_code(error), LookupFault.BAD_REPLY)


def _fault_among(replies: Sequence[object]) -> LookupFault:
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            return fault_of_record(reply)
    return LookupFault.BAD_REPLY


def unfit_by(unusable: StoreUnusable) -> Unfit:
    """Return the `Unfit` for a store that its own parameters make unusable."""
    is_behind = isinstance(unusable, LedgerBehind)
    return unfit(LookupFault.LEDGER_BEHIND if is_behind else LookupFault.UNUSABLE, str(unusable))


def unfit(fault: LookupFault, detail: str = "") -> Unfit:
    """Return an `Unfit` with the standard message of `fault`."""
    return Unfit(fault, f"{MESSAGES[fault]}: {detail}" if detail else MESSAGES[fault])


def _packed(command: Command) -> bytes:
    # The stub accepts only 1-tuples.
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed
