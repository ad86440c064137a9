"""
Who has which slot of a Redis Cluster, and questions that follow it.

    MOVED node         |   ask there, and from now on
    ASK node           |   ask there, this once, with ASKING
    a replica's fault  |   ask its master
    any other error    |   a fault of this question

- **A map is believed until a node says otherwise.** A wrong one costs a redirection,
  never a wrong answer: who does not have a slot does not answer for it.
- **A redirection ends.** After `MAX_HOPS` the question has its fault; a request does
  not wait even so long, its own deadline ends it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, cast

import hiredis

from rtb.lookup.cluster.node import Node
from rtb.lookup.link import MESSAGES, NOT_YET, Found, LookupFault, OnFound, TakesErrors
from segments.store.error_code import error_code
from segments.store.keys import SLOTS
from segments.store.servers.topology import Address, View

MAX_HOPS: Final = 4

_ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"


class Map:
    """
    The nodes that are known, and the master of each slot.

    Args:
        make_node: Makes a node at an address.
        reads_replicas: Whether replicas are asked, too.
    """

    def __init__(self, make_node: Callable[[Address], Node], *, reads_replicas: bool) -> None:
        self.nodes: dict[Address, Node] = {}
        self.slots: list[Node | None] = [None] * SLOTS
        self.look_now = asyncio.Event()
        """Set when a look at the cluster is due before its time."""
        self._make_node = make_node
        self._reads_replicas = reads_replicas
        self._view: View | None = None

    @property
    def masters(self) -> list[Node]:
        """Those that are no replica's."""
        return [node for node in self.nodes.values() if node.master is None]

    def node_at(self, address: Address) -> Node:
        """Return the node at an address; one that we did not know is looked at next."""
        node = self.nodes.get(address)
        if node is None:
            node = self.nodes[address] = self._make_node(address)
            self.look_now.set()
        return node

    def move(self, slot: int, node: Node) -> None:
        """Note who has a slot by now."""
        self.slots[slot] = node
        self._view = None  # the next one is put in force whatever it says
        self.look_now.set()

    def told_by(self, error: str, asked: Node) -> Node | None:
        """Return whom a node sends us to; `None`: its error is another one."""
        words = error.split(" ")
        if words[0] not in {"MOVED", "ASK"} or len(words) != 3:
            return None
        host, _, port = words[2].rpartition(":")
        node = self.node_at(Address(host or asked.address.host, int(port)))
        if words[0] == "MOVED":
            self.move(int(words[1]), node)
        return node

    async def adopt(self, view: View) -> None:
        """Put a view of the cluster in force, once its nodes have been visited."""
        if view == self._view:
            return
        slots: list[Node | None] = [None] * SLOTS
        wanted: dict[Address, Node] = {}
        for shard in view.shards:
            master = wanted[shard.master] = self._known(shard.master, None)
            replicas = shard.replicas if self._reads_replicas else ()
            master.replicas = [self._known(address, master) for address in replicas]
            wanted.update(zip(replicas, master.replicas, strict=True))
            for node in (master, *master.replicas):
                node.slot = shard.slots[0][0] if shard.slots else None
            for first, last in shard.slots:
                slots[first : last + 1] = [master] * (last + 1 - first)
        for address, node in self.nodes.items():
            if address not in wanted:
                node.lose(LookupFault.LOST, MESSAGES[LookupFault.LOST])
        self.nodes = wanted
        new = [node for node in wanted.values() if node.link is None]
        await asyncio.gather(*(node.visit(wants_view=False) for node in new))
        self.slots = slots
        self._view = view

    def _known(self, address: Address, master: Node | None) -> Node:
        node = self.nodes.get(address) or self._make_node(address)
        node.belong_to(master)
        return node


class Asked(TakesErrors):
    """
    A question for one id, on its way to the node that can answer.

    Args:
        map_: Who is where.
        node: Who is asked first.
        command: What it is asked.
        on_found: Called once.
    """

    __slots__ = ("_command", "_hops", "_map", "_node", "_on_found")

    def __init__(self, map_: Map, node: Node, command: bytes, on_found: OnFound) -> None:
        self._map = map_
        self._node = node
        self._command = command
        self._on_found = on_found
        self._hops = 0

    def send(self) -> None:
        """Put it to the node."""
        self._put(self._command, 1)

    def __call__(self, answer: Found | LookupFault) -> None:
        """Take what the node has said."""
        if isinstance(answer, LookupFault):
            self._end(answer)
            return
        # Errors too, which the type leaves out: compiled, it would be believed.
        replies = cast("Sequence[object]", answer)
        reply = replies[-1]  # behind the one to ASKING, if that was sent
        if reply is None:
            self._on_found([None])
        elif isinstance(reply, bytes):
            self._on_found([reply])
        elif isinstance(reply, hiredis.ReplyError):
            self._redirect(str(reply))
        else:
            self._end(LookupFault.BAD_REPLY)

    def _redirect(self, error: str) -> None:
        node = self._map.told_by(error, self._node)
        code = error_code(error)
        if node is None:
            self._end(LookupFault.LOADING if code in NOT_YET else LookupFault.BAD_REPLY)
        elif self._hop_to(node):
            if code == "ASK":
                self._put(_ASKING + self._command, 2)
            else:
                self._put(self._command, 1)

    def _hop_to(self, node: Node) -> bool:
        self._hops += 1
        if self._hops > MAX_HOPS:
            self._on_found(LookupFault.BAD_REPLY)
            return False
        self._node = node
        return True

    def _put(self, command: bytes, replies: int) -> None:
        fault = self._node.send(command, replies, self)
        if fault is not None:
            self._end(fault)

    def _end(self, fault: LookupFault) -> None:
        """Give up; but what a replica can't say, its master may."""
        master = self._node.master
        if master is None:
            self._on_found(fault)
        elif self._hop_to(master):
            self._put(self._command, 1)
