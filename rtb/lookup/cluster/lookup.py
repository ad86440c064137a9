"""
The lookup of `rtb.lookup.lookup` on a Redis Cluster.

    id -> bucket -> slot -> node        a Link a node, a write a node and turn
                             |
          answer             |   hands it on; the last id of a question calls back
          anything else      |   see `rtb.lookup.cluster.slot_map`

- **Each node is trusted on its own.** `seg:1:meta`, on a single node, names the servers' runs that
  have all opt-outs. A node with another run, restarted or just promoted, answers nothing until the
  loader has brought the opt-outs in; other nodes go on.
- **The map is refreshed** twice a second, and after each lost link or redirection. The newest
  of the nodes' views counts (`segments.store.servers.topology`).

Without the meta's node, the last meta holds for `META_KEPT_S`. A rebuild of a Cluster closes the
store for longer before its first deletion.

Reads from replicas, which may lag without limit, need `RTB_READ_REPLICAS`: workers register, and
writers acknowledge only changes that all connected replicas have (`segments.store.replica_reads`).

A Cluster has no near cache: see `rtb.lookup.near_cache.cache`.
"""

import asyncio
import time
from binascii import crc_hqx
from collections.abc import Sequence
from typing import Final

import hiredis

from rtb.lookup.awake_timeout import AwakeTimeout
from rtb.lookup.cluster.node import DialTo, Means, Node
from rtb.lookup.cluster.slot_map import MAX_HOPS, Asked, Map
from rtb.lookup.gather import Gather
from rtb.lookup.link import (
    MESSAGES,
    Command,
    LookupFault,
    OnFound,
    Unfit,
    may_not,
    refused,
    unfit_by,
)
from rtb.lookup.lookup import Lookup, LookupOptions, hget, name_of
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
"""For the last meta, while its node can't be asked."""

_FIRST_PAUSE_S: Final = 0.02
_TICK_S: Final = 0.001
_VIEWS: Final = 3
"""Nodes asked for their view at each look."""

_MASK: Final = SLOTS - 1

_REGISTER: Final = register_command(1, REPLICA_READS)


class ClusterLookup(Lookup):
    """
    The links to the nodes of a cluster, for the life of the process.

    Args:
        dial_to: Opens a connection to an address.
        seeds: The first addresses to ask.
        options: Of each link.
        is_tls: Dial the nodes' TLS ports.
        reads_replicas: Read replicas, too.
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
        self._judge_again_s = 0.0
        self._nobody: Unfit | None = None  # why no node may be asked

    def _make_node(self, address: Address) -> Node:
        return Node(address, self._means)

    def _on_ended(self, _: object) -> None:
        self._map.look_now.set()

    def ask(self, ids: tuple[bytes, ...], on_found: OnFound) -> None:
        """Look up the records of these ids; see `Lookup.ask`."""
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
        """Write pending questions now, not at the turn's end."""
        for node in self._map.nodes.values():
            if node.link is not None and node.link.unsent:
                node.link.flush()

    def note_late(self) -> None:
        """See `Lookup.note_late`: of any node, once a tick of the deadlines."""
        now_s = time.monotonic()
        if now_s >= self._judge_again_s:
            self._judge_again_s = now_s + _TICK_S
            for node in self._map.nodes.values():
                node.note_late()

    async def run(self) -> None:
        """Keep the links up until cancelled."""
        pauses, failures = Backoff(_FIRST_PAUSE_S, self._probe_s), 0
        look_now = self._map.look_now
        try:
            while True:
                await self._look()
                is_well = self.fault is None and not self.message
                failures = 0 if is_well else failures + 1
                pause_s = self._probe_s if is_well else pauses.after(failures)
                spread_s = pause_s * (0.5 + 0.5 * self._options.rng.random())
                # So a storm of redirections is a single look.
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
        """Visit all nodes, refresh map and meta, and judge the nodes."""
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
            # Every link is down: back to the seeds.
            self._begin()
        reply = await self._ask_owner(META, TRUST_COMMAND)
        if isinstance(reply, list):
            self._take_meta(reply)
        elif may_not(reply):
            self._nobody = refused(reply, name_of(TRUST_COMMAND))
        if self._reads_replicas:
            await self._register()
        self._judge()

    async def _register(self) -> None:
        """Make writers wait for the replicas: a condition of reading these."""
        asked_at_s = time.monotonic()
        if isinstance(await self._ask_owner(REPLICA_READS, _REGISTER), int):
            self._registered_at_s = asked_at_s

    def _begin(self) -> None:
        for seed in self._seeds:
            self._map.node_at(seed)

    async def _ask_owner(self, key: bytes, command: Command) -> object:
        """Ask a key's owner, even if closed to bids; `None`: no reply."""
        node = self._map.slots[slot_of(key)]
        is_asked = False
        for _ in range(MAX_HOPS):
            link = None if node is None else node.link
            if link is None or node is None:
                return None
            commands: list[Command] = [(b"ASKING",), command] if is_asked else [command]
            try:
                async with AwakeTimeout(self._probe_s):
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
        self._take(meta)
        self._caught_up = frozenset(caught_up_runs(reply))

    def _judge(self) -> None:
        """Decide which nodes bids may ask, and set the overall fault."""
        if asyncio.get_running_loop().time() - self._meta_read_at_s > META_KEPT_S:
            self._caught_up = frozenset()
        masters = self._map.masters
        unwell: list[Node] = []
        is_registered = time.monotonic() < self._registered_at_s + REGISTERED_S
        for node in masters:
            node.judge(node.run, self._caught_up)
            if node.fault is not None:
                unwell.append(node)
            # Copies a master with all opt-outs, maybe with a lag.
            lineage = node.run.partition(b":")[2]
            for replica in node.replicas:
                is_awaited = is_registered and replica.run == lineage
                replica.judge(node.run if is_awaited else b"", self._caught_up)
        self.refusal = unwell[0].refusal if unwell else None
        if self._nobody is not None:
            self.fault, self.message = self._nobody.fault, str(self._nobody)
            self.refusal = self._nobody.refusal
        elif len(unwell) == len(masters):
            self.fault = LookupFault.UNREACHABLE
            self.message = MESSAGES[LookupFault.UNREACHABLE]
            if unwell:
                self.fault, self.message = unwell[0].fault, unwell[0].message
        else:
            self.fault, self.message = None, ""
            if unwell:
                self.message = (
                    f"{len(unwell)} of {len(masters)} nodes are not asked:"
                    f" {_names(unwell)}, {unwell[0].message}"
                )


_NAMED: Final = 3


def _names(nodes: Sequence[Node]) -> str:
    """Return the addresses of some nodes, shortened."""
    names = [f"{node.address.host}:{node.address.port}" for node in nodes[:_NAMED]]
    return ", ".join(names) + (", ..." if len(nodes) > _NAMED else "")
