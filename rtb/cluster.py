"""
The same wait as `rtb.lookup`, on a store of many servers: a Redis Cluster.

    id -> bucket -> slot -> node        one Link a node, one write a node and turn
                             |
          answer             |   hands it on; the last id of a question calls back
          MOVED node         |   ask there, and from now on
          ASK node           |   ask there, this once, with ASKING
          any other error    |   a fault of this question

- **Each node is trusted by itself.** `seg:1:meta`, which lies on one of them, names
  the runs of servers that have all opt-outs. A node whose run is not among them, for
  it was started anew or was a replica a moment ago, answers nothing until the loader
  has brought them in. The others go on.
- **A map is believed until a node says otherwise.** It is asked for twice a second and
  whenever a link is lost or a node sends us elsewhere; of the nodes' views the newest
  counts (`segments.store.topology`). A wrong map costs a redirection, never a wrong
  answer: who does not have a slot does not answer for it.
- **A redirection ends.** After `_MAX_HOPS` the question has its fault; a request does
  not wait even so long, its own deadline ends it.

The node with the meta may be gone, as long as its place is taken within `META_KEPT_S`:
until then its last word holds for the others. A rebuild of a Cluster waits for longer
than that between closing the store and its first deletion.

Reads from replicas are off unless `RTB_READ_REPLICAS` says so: a replica is behind its
master by as much as the network likes, and an opt-out is there no sooner than anything.
"""

import asyncio
from binascii import crc_hqx
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, cast

import hiredis

from rtb.link import MESSAGES, Command, Found, Link, LookupFault, OnFound, TakesErrors, Unfit, unfit
from rtb.lookup import Dial, Lookup, replies_of
from segments.store.keys import FIELD_BYTES, META, SLOTS, bucket_key, bucket_of, field_of, slot_of
from segments.store.reader import (
    NOT_CAUGHT_UP,
    RUN_COMMAND,
    TRUST_COMMAND,
    Meta,
    StoreUnusable,
    caught_up_runs,
    parse_meta,
    parse_run,
)
from segments.store.topology import (
    EPOCH_COMMAND,
    SHARDS_COMMAND,
    Address,
    Unintelligible,
    View,
    best,
    view_of,
)

META_KEPT_S: Final = 50.0
"""How long the meta's last word holds where its node can't be asked."""

_MAX_HOPS: Final = 4
_FIRST_PAUSE_S: Final = 0.02
_VIEWS: Final = 3
"""So many nodes are asked for their view of the cluster each time."""

_ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"
_READONLY: Final[Command] = (b"READONLY",)
_MASK: Final = SLOTS - 1

DialTo = Callable[[Address], Dial]


class Node:
    """One server of the cluster, and what we know of it."""

    __slots__ = ("address", "fault", "is_replica", "link", "message", "replicas", "run", "turn")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.link: Link | None = None
        self.run = b""
        self.fault: LookupFault | None = LookupFault.UNREACHABLE
        self.message = MESSAGES[LookupFault.UNREACHABLE]
        self.is_replica = False
        self.replicas: list[Node] = []  # to read from instead, in turn
        self.turn = 0

    def lose(self, fault: LookupFault, message: str) -> None:
        """Note that it is of no use now."""
        self.fault, self.message = fault, message
        link = self.link
        if link is not None and fault is not LookupFault.UNUSABLE:
            self.link = None
            link.end(fault)


class _Question:
    """What was asked together: several ids, maybe of several nodes."""

    __slots__ = ("found", "left", "on_found")

    def __init__(self, count: int, on_found: OnFound) -> None:
        self.found: list[bytes | None] = [None] * count
        self.left = count
        self.on_found = on_found

    def end(self, fault: LookupFault) -> None:
        """Give up, once."""
        if self.left > 0:
            self.left = 0
            self.on_found(fault)

    def take(self, at: int, record: bytes | None) -> None:
        """Take what was found of one id."""
        if self.left <= 0:
            return
        self.found[at] = record
        self.left -= 1
        if self.left == 0:
            self.on_found(self.found)


class _Part(TakesErrors):
    """One id of a question, on its way to the node that can answer."""

    __slots__ = ("_asked", "_at", "_hops", "_lookup", "_question", "command")

    def __init__(
        self, lookup: "ClusterLookup", question: _Question, at: int, asked: Node, command: bytes
    ) -> None:
        self._lookup = lookup
        self._question = question
        self._at = at
        self._asked = asked
        self._hops = 0
        self.command = command

    def __call__(self, answer: Found | LookupFault) -> None:
        if isinstance(answer, LookupFault):
            self._question.end(answer)
            return
        # Errors too, which the type leaves out: compiled, it would be believed.
        replies = cast("Sequence[object]", answer)
        reply = replies[-1]  # behind the one to ASKING, if that was sent
        if reply is None:
            self._question.take(self._at, None)
        elif isinstance(reply, bytes):
            self._question.take(self._at, reply)
        elif isinstance(reply, hiredis.ReplyError):
            self._redirect(str(reply).split(" "))
        else:
            self._question.end(LookupFault.BAD_REPLY)

    def _redirect(self, words: list[str]) -> None:
        if words[0] not in {"MOVED", "ASK"} or len(words) != 3:
            self._question.end(
                LookupFault.LOADING if words[0] in _NOT_YET else LookupFault.BAD_REPLY
            )
            return
        self._hops += 1
        if self._hops > _MAX_HOPS or self._question.left <= 0:
            self._question.end(LookupFault.BAD_REPLY)
            return
        host, _, port = words[2].rpartition(":")
        address = Address(host or self._asked.address.host, int(port))
        node = self._lookup.node_at(address)
        self._asked = node
        if words[0] == "MOVED":
            self._lookup.move(int(words[1]), node)
            fault = self._lookup.send(node, self, self.command, 1)
        else:
            fault = self._lookup.send(node, self, _ASKING + self.command, 2)
        if fault is not None:
            self._question.end(fault)


class ClusterLookup(Lookup):
    """
    The links to the nodes of a cluster, for as long as the process lives.

    Args:
        dial_to: Opens a connection to an address.
        seeds: Where to ask first.
        greeting: See `Lookup`.
        is_tls: Whether the nodes' ports for TLS are dialed.
        reads_replicas: Whether replicas are asked, too.
        rng: See `Lookup`.
        on_round_trip: See `Link`.
        on_bug: See `Link`.
        probe_s: See `Lookup`.
        max_waiting: Of each node; see `Lookup`.
    """

    def __init__(
        self,
        dial_to: DialTo,
        seeds: Sequence[Address],
        greeting: Sequence[Command],
        *,
        is_tls: bool,
        reads_replicas: bool,
        rng: Random,
        on_round_trip: Callable[[int], None],
        on_bug: Callable[[Exception], None],
        probe_s: float = 0.5,
        max_waiting: int = 20_000,
    ) -> None:
        super().__init__(
            dial_to(seeds[0]),
            greeting,
            rng=rng,
            on_round_trip=on_round_trip,
            on_bug=on_bug,
            probe_s=probe_s,
            max_waiting=max_waiting,
        )
        self._dial_to = dial_to
        self._seeds = tuple(seeds)
        self._is_tls = is_tls
        self._reads_replicas = reads_replicas
        self._nodes: dict[Address, Node] = {}
        self._slots: list[Node | None] = [None] * SLOTS
        self._view: View | None = None
        self._caught_up: frozenset[bytes] = frozenset()
        self._meta_read_at_s = -META_KEPT_S
        self._why_nobody = ""
        self._look_now = asyncio.Event()

    def ask(self, ids: tuple[bytes, ...], on_found: OnFound) -> None:
        """Ask what the store holds of these ids; see `Lookup`."""
        if self.fault is not None:
            on_found(self.fault)
            return
        bits = self._bucket_bits
        question = _Question(len(ids), on_found)
        for at, id_ in enumerate(ids):
            key = bucket_key(bucket_of(id_, bits))
            node = self._slots[crc_hqx(key, 0) & _MASK]
            if node is None:
                question.end(LookupFault.UNREACHABLE)
                return
            if node.replicas:
                node = _in_turn(node)
            command = b"*3\r\n$4\r\nHGET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
                len(key),
                key,
                FIELD_BYTES,
                field_of(id_),
            )
            fault = self.send(node, _Part(self, question, at, node, command), command, 1)
            if fault is not None:
                # What was sent of it already is answered to nobody.
                question.end(fault)
                return

    def send(self, node: Node, part: OnFound, command: bytes, replies: int) -> LookupFault | None:
        """Put something to a node, or return why that can't be."""
        if node.fault is not None:
            return node.fault
        link = node.link
        if link is None or link.ended.done():
            return LookupFault.LOST
        if len(link.waiting) >= self._max_waiting:
            return LookupFault.BUSY
        if not link.unsent:
            link.call_soon(link.flush)
        link.unsent.append(command)
        link.waiting.append((replies, part))
        return None

    def flush(self) -> None:
        """Write what was asked now, instead of at the end of this turn of the event loop."""
        for node in self._nodes.values():
            if node.link is not None and node.link.unsent:
                node.link.flush()

    def node_at(self, address: Address) -> Node:
        """Return the node at an address; one that we did not know is looked at next."""
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(address)
            self._look_now.set()
        return node

    def move(self, slot: int, node: Node) -> None:
        """Note who has a slot by now."""
        self._slots[slot] = node
        self._view = None  # the next one is put in force whatever it says
        self._look_now.set()

    async def run(self) -> None:
        """Keep the links up, for ever; ends only by being cancelled."""
        pause_s = _FIRST_PAUSE_S
        try:
            while True:
                await self._look()
                is_well = self.fault is None and not self.message
                pause_s = self._probe_s if is_well else min(pause_s * 2, self._probe_s)
                spread_s = pause_s * (0.5 + 0.5 * self._rng.random())
                # Not at once, even if told to: a storm of redirections is one look.
                await asyncio.sleep(_FIRST_PAUSE_S)
                try:
                    async with asyncio.timeout(spread_s):
                        await self._look_now.wait()
                    pause_s = _FIRST_PAUSE_S
                except TimeoutError:
                    pass
                self._look_now.clear()
        finally:
            for node in self._nodes.values():
                node.lose(LookupFault.LOST, MESSAGES[LookupFault.LOST])

    async def _look(self) -> None:
        """Look at all nodes, at the map, and at the meta; then say who may be asked."""
        if not self._nodes:
            for seed in self._seeds:
                self.node_at(seed)
        nodes = list(self._nodes.values())
        linked = [node for node in nodes if node.link is not None] or nodes
        to_view = self._rng.sample(linked, min(_VIEWS, len(linked)))
        views = await asyncio.gather(*(self._visit(node, node in to_view) for node in nodes))
        seen = [view for view in views if view is not None]
        if seen:
            await self._adopt(best(seen))
        elif all(node.link is None for node in nodes):
            # Nobody is where they were: begin again with whom we were told of.
            for seed in self._seeds:
                self.node_at(seed)
        await self._read_meta()
        self._judge()

    async def _adopt(self, view: View) -> None:
        if view == self._view:
            return
        slots: list[Node | None] = [None] * SLOTS
        wanted: dict[Address, Node] = {}
        new: list[Node] = []
        for shard in view.shards:
            master = self._nodes.get(shard.master) or Node(shard.master)
            addresses = [shard.master, *(shard.replicas if self._reads_replicas else ())]
            master.replicas = []
            for address in addresses:
                node = master if address == shard.master else self._nodes.get(address)
                if node is None:
                    node = Node(address)
                is_replica = node is not master
                if node.is_replica != is_replica:
                    # Its connection was greeted for the other part.
                    node.lose(LookupFault.LOST, MESSAGES[LookupFault.LOST])
                    node.is_replica = is_replica
                wanted[address] = node
                if is_replica:
                    master.replicas.append(node)
                if node.link is None:
                    new.append(node)
            for first, last in shard.slots:
                slots[first : last + 1] = [master] * (last + 1 - first)
        for address, node in self._nodes.items():
            if address not in wanted:
                node.lose(LookupFault.LOST, MESSAGES[LookupFault.LOST])
        self._nodes = wanted
        await asyncio.gather(*(self._visit(node, False) for node in new))
        self._slots = slots
        self._view = view

    async def _visit(self, node: Node, wants_view: bool) -> View | None:
        """See that a node is there and who it is; return its view of the cluster if wanted."""
        try:
            async with asyncio.timeout(self._probe_s):
                link = node.link
                if link is None or link.ended.done():
                    link = await self._open(node)
                commands = [RUN_COMMAND]
                if wants_view:
                    commands += [SHARDS_COMMAND, EPOCH_COMMAND]
                said, *view = await replies_of(link, commands)
            run = _run_of(said, is_replica=node.is_replica)
            if run != node.run:
                node.run = run
                node.fault = node.fault or LookupFault.UNUSABLE  # until it is judged
        except TimeoutError:
            node.lose(LookupFault.STALLED, MESSAGES[LookupFault.STALLED])
            return None
        except OSError as error:
            # By its kind only: the text may hold an address.
            why = str(unfit(LookupFault.UNREACHABLE, type(error).__name__))
            node.lose(LookupFault.UNREACHABLE, why)
            return None
        except Unfit as error:
            node.run = b""
            node.lose(error.fault, str(error))
            return None
        if not view:
            return None
        try:
            return view_of(view[0], view[1], node.address.host, is_tls=self._is_tls)
        except Unintelligible as error:
            node.lose(LookupFault.UNUSABLE, str(unfit(LookupFault.UNUSABLE, str(error))))
            return None

    async def _open(self, node: Node) -> Link:
        link = Link(self._on_round_trip, self._on_bug)
        greeting = [*self._greeting, *((_READONLY,) if node.is_replica else ())]
        try:
            await self._dial_to(node.address)(lambda: cast("asyncio.Protocol", link))
            if greeting:
                await replies_of(link, greeting)
        except BaseException:
            link.end(LookupFault.UNREACHABLE)
            raise
        link.ended.add_done_callback(self._on_ended)
        # Whatever was there before: it is not asked until it is judged.
        node.fault = node.fault or LookupFault.LOST
        node.link = link
        return link

    def _on_ended(self, _: "asyncio.Future[LookupFault]") -> None:
        self._look_now.set()

    async def _read_meta(self) -> None:
        """Read the meta from whoever has it; it says how to ask, and who may be asked."""
        node = self._slots[slot_of(META)]
        is_asked = False
        for _ in range(_MAX_HOPS):
            link = None if node is None else node.link
            if link is None or node is None:
                return
            commands: list[Command] = [(b"ASKING",), TRUST_COMMAND] if is_asked else [TRUST_COMMAND]
            try:
                async with asyncio.timeout(self._probe_s):
                    reply = (await link.call(commands))[-1]
            except (TimeoutError, Unfit):
                return
            if isinstance(reply, list):
                self._take_meta(reply)
                return
            words = str(reply).split(" ")
            if words[0] not in {"MOVED", "ASK"} or len(words) != 3:
                return
            host, _, port = words[2].rpartition(":")
            node = self.node_at(Address(host or node.address.host, int(port)))
            is_asked = words[0] == "ASK"

    def _take_meta(self, reply: Sequence[bytes | None]) -> None:
        self._meta_read_at_s = asyncio.get_running_loop().time()
        self._caught_up = frozenset()
        self._why_nobody = ""
        try:
            meta: Meta = parse_meta(reply[:-1])
        except StoreUnusable as unusable:
            self._why_nobody = str(unfit(LookupFault.UNUSABLE, str(unusable)))
            return
        self._bucket_bits = meta.bucket_bits
        self._caught_up = frozenset(caught_up_runs(reply))

    def _judge(self) -> None:
        """Say of each node whether it may be asked, and of the whole how it is."""
        if asyncio.get_running_loop().time() - self._meta_read_at_s > META_KEPT_S:
            self._caught_up = frozenset()
        masters = [node for node in self._nodes.values() if not node.is_replica]
        unwell: list[Node] = []
        for node in masters:
            self._judge_one(node, node.run)
            if node.fault is not None:
                unwell.append(node)
            # Of the same stock as its master, which has all opt-outs; it may be behind.
            lineage = node.run.partition(b":")[2]
            for replica in node.replicas:
                self._judge_one(replica, node.run if replica.run == lineage else b"")
        if self._why_nobody:
            self.fault, self.message = LookupFault.UNUSABLE, self._why_nobody
        elif len(unwell) == len(masters):
            self.fault = LookupFault.UNREACHABLE
            self.message = MESSAGES[LookupFault.UNREACHABLE]
            if unwell:
                self.fault, self.message = unwell[0].fault, unwell[0].message
        else:
            self.fault, self.message = None, ""
            if unwell:
                why = unwell[0].message
                self.message = f"{len(unwell)} of {len(masters)} nodes are not asked: {why}"

    def _judge_one(self, node: Node, run: bytes) -> None:
        if node.link is None or node.link.ended.done():
            if node.fault is None:
                node.fault, node.message = LookupFault.LOST, MESSAGES[LookupFault.LOST]
        elif not node.run:
            pass  # `_visit` has said why
        elif run in self._caught_up:
            node.fault, node.message = None, ""
        else:
            node.fault = LookupFault.UNUSABLE
            node.message = str(unfit(LookupFault.UNUSABLE, NOT_CAUGHT_UP))


def _in_turn(master: Node) -> Node:
    """Return the next of a master and its replicas that may be asked."""
    for _ in range(len(master.replicas)):
        master.turn = (master.turn + 1) % (len(master.replicas) + 1)
        if master.turn == len(master.replicas):
            return master
        replica = master.replicas[master.turn]
        if replica.fault is None and replica.link is not None and not replica.link.ended.done():
            return replica
    return master


def _run_of(said: object, *, is_replica: bool) -> bytes:
    """Return a master's run; of a replica, whose stock it is, as its master calls it."""
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


_NOT_YET: Final = frozenset({"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY"})
"""Error codes of a node that will answer when the cluster is done with something."""
