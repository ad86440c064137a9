"""
The same wait as `rtb.lookup.lookup`, on a store of many servers: a Redis Cluster.

    id -> bucket -> slot -> node        one Link a node, one write a node and turn
                             |
          answer             |   hands it on; the last id of a question calls back
          anything else      |   see `rtb.lookup.cluster.slot_map`

- **Each node is trusted by itself.** `seg:1:meta`, which lies on one of them, names
  the runs of servers that have all opt-outs. A node whose run is not among them, for
  it was started anew or was a replica a moment ago, answers nothing until the loader
  has brought them in. The others go on.
- **The map is asked for** twice a second and whenever a link is lost or a node sends us
  elsewhere; of the nodes' views the newest counts (`segments.store.servers.topology`).

The node with the meta may be gone, as long as its place is taken within `META_KEPT_S`:
until then its last word holds for the others. A rebuild of a Cluster waits for longer
than that between closing the store and its first deletion.

Reads from replicas are off unless `RTB_READ_REPLICAS` says so: a replica is behind its
master by as much as the network likes. So writers are told of it, and acknowledge only what
all connected replicas have (`segments.store.replica_reads`).

Nothing of a Cluster is kept in process: see `rtb.lookup.near_cache.cache`.
"""

import asyncio
import time
from binascii import crc_hqx
from collections.abc import Sequence
from typing import Final

import hiredis

from rtb.lookup.cluster.node import DialTo, Means, Node
from rtb.lookup.cluster.slot_map import MAX_HOPS, Asked, Map
from rtb.lookup.gather import Gather
from rtb.lookup.link import MESSAGES, Command, LookupFault, OnFound, Unfit, unfit_by
from rtb.lookup.lookup import Lookup, LookupOptions, hget
from segments.runtime.pauses import Backoff
from segments.store.cache_lease import REGISTERED_S, register_command
from segments.store.keys import (
    META,
    REPLICA_READS,
    SLOTS,
    bucket_key,
    bucket_of,
    slot_of,
)
from segments.store.reader import (
    TRUST_COMMAND,
    Meta,
    StoreUnusable,
    believed_meta,
    caught_up_runs,
)
from segments.store.servers.topology import Address, best

META_KEPT_S: Final = 50.0
"""How long the meta's last word holds where its node can't be asked."""

_FIRST_PAUSE_S: Final = 0.02
_VIEWS: Final = 3
"""So many nodes are asked for their view of the cluster each time."""

_MASK: Final = SLOTS - 1

_REGISTER: Final = register_command(1, REPLICA_READS)


class ClusterLookup(Lookup):
    """
    The links to the nodes of a cluster, for as long as the process lives.

    Args:
        dial_to: Opens a connection to an address.
        seeds: Where to ask first.
        options: Of each link.
        is_tls: Whether the nodes' ports for TLS are dialed.
        reads_replicas: Whether replicas are asked, too.
    """

    def __init__(
        self,
        dial_to: DialTo,
        seeds: Sequence[Address],
        options: LookupOptions,
        *,
        is_tls: bool,
        reads_replicas: bool,
    ) -> None:
        super().__init__(dial_to(seeds[0]), options)
        self._seeds = tuple(seeds)
        self._map = Map(self._make_node, reads_replicas=reads_replicas)
        self._reads_replicas = reads_replicas
        self._registered_at_s = -REGISTERED_S
        self._means = Means(dial_to, options, is_tls, self._on_ended)
        self._caught_up: frozenset[bytes] = frozenset()
        self._meta_read_at_s = -META_KEPT_S
        self._nobody: Unfit | None = None  # why nobody may be asked

    def _make_node(self, address: Address) -> Node:
        return Node(address, self._means)

    def _on_ended(self, _: object) -> None:
        self._map.look_now.set()

    def ask(self, ids: tuple[bytes, ...], on_found: OnFound) -> None:
        """Ask what the store holds of these ids; see `Lookup`."""
        if self.fault is not None:
            on_found(self.fault)
        elif len(ids) == 1:
            self._ask_one(ids[0], on_found)
        else:
            gather = Gather([None] * len(ids), on_found)
            for n, id_ in enumerate(ids):
                self._ask_one(id_, gather.part(n))
            gather.all_asked()

    def _ask_one(self, id_: bytes, on_found: OnFound) -> None:
        key = bucket_key(bucket_of(id_, self._bucket_bits))
        node = self._map.slots[crc_hqx(key, 0) & _MASK]
        if node is None:
            on_found(LookupFault.UNREACHABLE)
            return
        if node.replicas:
            node = node.reader()
        Asked(self._map, node, hget(key, id_), on_found).send()

    def flush(self) -> None:
        """Write what was asked now, instead of at the end of this turn of the event loop."""
        for node in self._map.nodes.values():
            if node.link is not None and node.link.unsent:
                node.link.flush()

    async def run(self) -> None:
        """Keep the links up, for ever; ends only by being cancelled."""
        pauses, failures = Backoff(_FIRST_PAUSE_S, self._probe_s), 0
        look_now = self._map.look_now
        try:
            while True:
                await self._look()
                is_well = self.fault is None and not self.message
                failures = 0 if is_well else failures + 1
                pause_s = self._probe_s if is_well else pauses.after(failures)
                spread_s = pause_s * (0.5 + 0.5 * self._options.rng.random())
                # Not at once, even if told to: a storm of redirections is one look.
                await asyncio.sleep(_FIRST_PAUSE_S)
                try:
                    async with asyncio.timeout(spread_s):
                        await look_now.wait()
                    failures = 0
                except TimeoutError:
                    pass
                look_now.clear()
        finally:
            for node in self._map.nodes.values():
                node.lose(LookupFault.LOST, MESSAGES[LookupFault.LOST])

    async def _look(self) -> None:
        """Look at all nodes, at the map, and at the meta; then say who may be asked."""
        if not self._map.nodes:
            self._begin()
        nodes = list(self._map.nodes.values())
        linked = [node for node in nodes if node.link is not None] or nodes
        to_view = self._options.rng.sample(linked, min(_VIEWS, len(linked)))
        views = await asyncio.gather(*(node.visit(wants_view=node in to_view) for node in nodes))
        seen = [view for view in views if view is not None]
        if seen:
            await self._map.adopt(best(seen))
        elif all(node.link is None for node in nodes):
            # Nobody is where they were: begin again with whom we were told of.
            self._begin()
        reply = await self._ask_owner(META, TRUST_COMMAND)
        if isinstance(reply, list):
            self._take_meta(reply)
        if self._reads_replicas:
            await self._register()
        self._judge()

    async def _register(self) -> None:
        """Have writers wait for the replicas; none is asked before they do."""
        asked_at_s = time.monotonic()
        if isinstance(await self._ask_owner(REPLICA_READS, _REGISTER), int):
            self._registered_at_s = asked_at_s

    def _begin(self) -> None:
        for seed in self._seeds:
            self._map.node_at(seed)

    async def _ask_owner(self, key: bytes, command: Command) -> object:
        """Ask whoever has a key, of whatever use that node is else; `None`: it does not say."""
        node = self._map.slots[slot_of(key)]
        is_asked = False
        for _ in range(MAX_HOPS):
            link = None if node is None else node.link
            if link is None or node is None:
                return None
            commands: list[Command] = [(b"ASKING",), command] if is_asked else [command]
            try:
                async with asyncio.timeout(self._probe_s):
                    reply = (await link.call(commands))[-1]
            except (TimeoutError, Unfit):
                return None
            if not isinstance(reply, hiredis.ReplyError):
                return reply
            error = str(reply)
            node = self._map.told_by(error, node)
            if node is None:
                return reply
            is_asked = error.startswith("ASK")
        return None

    def _take_meta(self, reply: Sequence[bytes | None]) -> None:
        self._meta_read_at_s = asyncio.get_running_loop().time()
        self._caught_up = frozenset()
        self._nobody = None
        try:
            meta: Meta = believed_meta(reply)
        except StoreUnusable as unusable:
            self._nobody = unfit_by(unusable)
            return
        self._bucket_bits = meta.bucket_bits
        self._caught_up = frozenset(caught_up_runs(reply))

    def _judge(self) -> None:
        """Say of each node whether it may be asked, and of the whole how it is."""
        if asyncio.get_running_loop().time() - self._meta_read_at_s > META_KEPT_S:
            self._caught_up = frozenset()
        masters = self._map.masters
        unwell: list[Node] = []
        is_registered = time.monotonic() < self._registered_at_s + REGISTERED_S
        for node in masters:
            node.judge(node.run, self._caught_up)
            if node.fault is not None:
                unwell.append(node)
            # Of the same stock as its master, which has all opt-outs; it may be behind.
            lineage = node.run.partition(b":")[2]
            for replica in node.replicas:
                is_awaited = is_registered and replica.run == lineage
                replica.judge(node.run if is_awaited else b"", self._caught_up)
        if self._nobody is not None:
            self.fault, self.message = self._nobody.fault, str(self._nobody)
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
