"""
The node of each slot of a Redis Cluster, and questions that follow redirections.

    MOVED node         |   ask there, and from now on
    ASK node           |   ask there, this once, with ASKING
    a replica's fault  |   ask its master
    any other error    |   a fault of this question

- **A map holds until a node contradicts it.** A wrong map costs only a redirection: a node answers
  only for its own slots.
- **Redirections end** with a fault after `MAX_HOPS`; a request's own deadline ends earlier.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, cast

import hiredis

from rtb.lookup.cluster.node import Node
from rtb.lookup.link import MESSAGES, Found, LookupFault, OnFound, TakesErrors, fault_of_record
from segments.store.error_code import error_code
from segments.store.keys import SLOTS
from segments.store.servers.topology import Address, View

MAX_HOPS: Final = 4

_ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"


class Map:
    """
    The known nodes, and the master of each slot.

    Args:
        make_node: Makes a node at an address.
        reads_replicas: Read replicas, too.
    """

    def __init__(self, make_node: Callable[[Address], Node], *, reads_replicas: bool) -> None:
        self.nodes: dict[Address, Node] = {}
        self.slots: list[Node | None] = [None] * SLOTS
        self.look_now = asyncio.Event()
        """Set when the next look is due early."""
        self._make_node = make_node
        self._reads_replicas = reads_replicas
        self._view: View | None = None

    @property
    def masters(self) -> list[Node]:
        """The nodes that are masters."""
        return [node for node in self.nodes.values() if node.master is None]

    def node_at(self, address: Address) -> Node:
        """Return the node at an address; a new node makes a look due."""
        node = self.nodes.get(address)
        if node is None:
            node = self.nodes[address] = self._make_node(address)
            self.look_now.set()
        return node

    def move(self, slot: int, node: Node) -> None:
        """Assign a slot to another node."""
        self.slots[slot] = node
        self._view = None  # so that `adopt` takes the next view
        self.look_now.set()

    def told_by(self, error: str, asked: Node) -> Node | None:
        """Return the target of a redirection; `None` for other errors."""
        words = error.split(" ")
        if words[0] not in {"MOVED", "ASK"} or len(words) != 3:
            return None
        host, _, port = words[2].rpartition(":")
        node = self.node_at(Address(host or asked.address.host, int(port)))
        if words[0] == "MOVED":
            self.move(int(words[1]), node)
        return node

    async def adopt(self, view: View) -> None:
        """Put a view of the cluster in force after a visit to its new nodes."""
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
    An id's question, on its way.

    Args:
        map_: The map of the cluster.
        node: The first node to ask.
        command: The question, in RESP.
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
        """Send the question to the node."""
        self._put(self._command, 1)

    def __call__(self, answer: Found | LookupFault) -> None:
        """Take the node's replies."""
        if isinstance(answer, LookupFault):
            self._end(answer)
            return
        # With errors, unlike the type, which compiled code would trust.
        replies = cast("Sequence[object]", answer)
        reply = replies[-1]  # after the reply to ASKING, if that was sent
        if reply is None:
            self._on_found([None])
        elif isinstance(reply, bytes):
            self._on_found([reply])
        elif isinstance(reply, hiredis.ReplyError):
            self._redirect(reply)
        else:
            self._end(LookupFault.BAD_REPLY)

    def _redirect(self, error: hiredis.ReplyError) -> None:
        node = self._map.told_by(str(error), self._node)
        if node is None:
            self._end(fault_of_record(error))
        elif self._hop_to(node):
            if error_code(error) == "ASK":
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
        """Give up; after a replica, ask its master."""
        master = self._node.master
        if master is None:
            self._on_found(fault)
        elif self._hop_to(master):
            self._put(self._command, 1)
