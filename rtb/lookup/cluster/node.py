"""
One server of a Redis Cluster, and its known state.

A visit, twice a second or right after trouble, checks a node's presence, run and view of the
cluster. Bids may ask the node only once `rtb.lookup.cluster.lookup`, which knows all nodes, has
judged its run.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

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
)
from rtb.lookup.lookup import Dial, LookupOptions, name_of, replies_of
from segments.store.error_code import Refusal
from segments.store.reader import (
    NOT_CAUGHT_UP,
    RECORD_COMMAND,
    RUN_COMMAND,
    StoreUnusable,
    parse_run,
)
from segments.store.servers.topology import (
    EPOCH_COMMAND,
    SHARDS_COMMAND,
    Address,
    Unintelligible,
    View,
    view_of,
)

_READONLY: Final[Command] = (b"READONLY",)

_LINK_STAYS: Final = frozenset({LookupFault.UNUSABLE, LookupFault.NOPERM, LookupFault.REFUSED})
"""A new connection would only repeat these."""

DialTo = Callable[[Address], Dial]


@dataclass(frozen=True)
class Means:
    """The means to reach any node."""

    dial_to: DialTo
    options: LookupOptions

    is_tls: bool
    """Dial TLS ports."""

    on_ended: Callable[[object], None]
    """Called when a link to a node ends."""


class Node:
    """One server, as a master or as a replica."""

    __slots__ = (
        "_means",
        "address",
        "fault",
        "freshness",
        "link",
        "master",
        "message",
        "refusal",
        "replicas",
        "run",
        "slot",
        "turn",
    )

    def __init__(self, address: Address, means: Means) -> None:
        self.address = address
        self.link: Link | None = None
        self.run = b""
        self.fault: LookupFault | None = LookupFault.UNREACHABLE
        self.message = MESSAGES[LookupFault.UNREACHABLE]
        self.refusal: Refusal | None = None  # if that is the fault
        self.master: Node | None = None  # of a replica
        self.replicas: list[Node] = []  # share the reads of a master, in turn
        self.turn = 0
        self.slot: int | None = None  # of its shard: the slot of its number
        self.freshness = Freshness(means.options.opt_outs_max_age_s)
        self._means = means

    def lose(self, fault: LookupFault, message: str, refusal: Refusal | None = None) -> None:
        """Mark the node as unfit; keep its link if a new one can't help."""
        self.fault, self.message, self.refusal = fault, message, refusal
        link = self.link
        if link is not None and fault not in _LINK_STAYS:
            self.link = None
            link.end(fault)

    def belong_to(self, master: "Node | None") -> None:
        """Set the master whose replica it is; `None`: it is a master."""
        if (self.master is None) != (master is None):
            # The greeting was for the other role.
            self.lose(LookupFault.LOST, MESSAGES[LookupFault.LOST])
        self.master = master

    def reader(self) -> "Node":
        """Return the next usable node of this master and its replicas."""
        count = len(self.replicas)
        for _ in range(count):
            self.turn = (self.turn + 1) % (count + 1)
            if self.turn == count:
                return self
            replica = self.replicas[self.turn]
            if replica.fault is None and replica.is_answering:
                return replica
        return self

    @property
    def is_linked(self) -> bool:
        """Whether it has a connection."""
        return self.link is not None and not self.link.ended.done()

    @property
    def is_answering(self) -> bool:
        """Whether it has a connection that is not silent."""
        return self.is_linked and self.link is not None and not self.link.is_silent

    def note_late(self) -> None:
        """See `Lookup.note_late`."""
        if self.link is not None:
            self.link.judge_silence(self._means.options.silent_after_s)

    def send(self, command: bytes, replies: int, taker: OnFound) -> LookupFault | None:
        """Send a question, or return the reason why not."""
        if self.fault is not None:
            return self.fault
        link = self.link
        if link is None or link.ended.done():
            return LookupFault.LOST
        if link.is_silent:
            return LookupFault.STALLED
        if len(link.waiting) >= self._means.options.max_waiting:
            return LookupFault.BUSY
        if not link.unsent:
            link.call_soon(link.flush)
        link.unsent.append(command)
        link.expect(replies, taker)
        return None

    def judge(self, run: bytes, caught_up: frozenset[bytes]) -> None:
        """Decide whether bids may ask it, by the run that it holds or copies."""
        if not self.is_linked:
            if self.fault is None:
                self.fault, self.message = LookupFault.LOST, MESSAGES[LookupFault.LOST]
        elif not self.run:
            pass  # `visit` has set the reason
        elif run in caught_up and self.freshness.left_s(time.monotonic()) <= 0:
            self.fault = LookupFault.OPT_OUTS_STALE
            self.message = MESSAGES[LookupFault.OPT_OUTS_STALE]
        elif run in caught_up:
            self.fault, self.message, self.refusal = None, "", None
        else:
            self.fault = LookupFault.UNUSABLE
            self.message = str(unfit(LookupFault.UNUSABLE, NOT_CAUGHT_UP))

    async def visit(self, *, wants_view: bool) -> View | None:
        """Check its presence and run; return its view if wanted."""
        try:
            async with AwakeTimeout(self._means.options.probe_s):
                link = self.link
                if link is None or link.ended.done():
                    link = await self._open()
                commands = [RUN_COMMAND, RECORD_COMMAND]
                if wants_view:
                    commands += [SHARDS_COMMAND, EPOCH_COMMAND]
                said, _, *view = await replies_of(link, commands)
                number: object = None
                if self.slot is not None:
                    # Apart: an error if the slot has moved.
                    command = note_command(self.slot)
                    [number] = await link.call((command,))
                    if may_not(number):
                        raise refused(number, name_of(command))
        except TimeoutError:
            self.lose(LookupFault.STALLED, MESSAGES[LookupFault.STALLED])
            return None
        except OSError as error:
            # The text may hold an address.
            why = str(unfit(LookupFault.UNREACHABLE, type(error).__name__))
            self.lose(LookupFault.UNREACHABLE, why)
            return None
        except Unfit as error:
            self._note_unfit(error)
            return None
        try:
            self._note_run(_run_of(said, is_replica=self.master is not None))
            self.freshness.take(self.run, number, time.monotonic())
        except Unfit as error:
            # A former master may be a replica now, with a good view.
            self._note_unfit(error)
        if not view:
            return None
        try:
            return view_of(view[0], view[1], self.address.host, is_tls=self._means.is_tls)
        except Unintelligible as error:
            self.lose(LookupFault.UNUSABLE, str(unfit(LookupFault.UNUSABLE, str(error))))
            return None

    def _note_run(self, run: bytes) -> None:
        if run != self.run:
            self.run = run
            self.fault = self.fault or LookupFault.UNUSABLE  # until `judge`

    def _note_unfit(self, error: Unfit) -> None:
        self.run = b""
        self.lose(error.fault, str(error), error.refusal)

    async def _open(self) -> Link:
        means = self._means
        link = Link(means.options.on_round_trip, means.options.on_bug)
        greeting = [*means.options.greeting, *((_READONLY,) if self.master is not None else ())]
        try:
            await means.dial_to(self.address)(lambda: cast("asyncio.Protocol", link))
            if greeting:
                await replies_of(link, greeting)
        except BaseException:
            link.end(LookupFault.UNREACHABLE)
            raise
        link.ended.add_done_callback(means.on_ended)
        # No bid asks it before `judge`.
        self.fault = self.fault or LookupFault.LOST
        self.link = link
        return link


def _run_of(said: object, *, is_replica: bool) -> bytes:
    """Return a master's run; for a replica, its master's replication id."""
    if not isinstance(said, bytes):
        raise unfit(LookupFault.UNUSABLE, "its reply to INFO is not text")
    if is_replica:
        if b"\nmaster_link_status:up" not in said:
            raise unfit(LookupFault.LOADING, "a replica without its master")
        return said.partition(b"\nmaster_replid:")[2].split(b"\r\n", 1)[0]
    try:
        return parse_run(said)
    except StoreUnusable as unusable:
        raise unfit(LookupFault.UNUSABLE, str(unusable)) from None
