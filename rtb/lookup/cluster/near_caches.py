"""
What is kept of a Redis Cluster: a near cache of each master, and that writers know of it.

Each is of one link and judged by what that link's node says (`rtb.lookup.near_cache.node_cache`);
room is divided among the masters evenly, and anew when one comes or goes. A node that does not
tell of its changes is asked each time, and the others are not.
"""

from collections.abc import Callable, Sequence
from typing import Final

import hiredis

from rtb.lookup.cluster.node import Node
from rtb.lookup.link import Link, OnFound
from rtb.lookup.near_cache.cache import Flight
from rtb.lookup.near_cache.lease import CacheLimits, Counts, Registration, uptime_s
from rtb.lookup.near_cache.node_cache import NodeNear
from segments.store.cache_lease import MAX_LEASE_MS, MS_PER_S, register_command
from segments.store.servers.topology import CLAIM_COMMAND

_CLAIM: Final = b"".join(
    [b"*%d\r\n" % len(CLAIM_COMMAND), *(b"$%d\r\n%b\r\n" % (len(w), w) for w in CLAIM_COMMAND)]
)


class ClusterCache:
    """
    The near caches of a worker.

    Args:
        room: Of all of them together.
        counts: Where they count.
        on_bug: See `Link`.
        ask_node: Asks a node for an id, whatever is kept.

    Attributes:
        register: The command by which writers learn that we cache.
    """

    def __init__(
        self,
        room: CacheLimits,
        counts: Counts,
        on_bug: Callable[[Exception], None],
        ask_node: Callable[[Node, bytes, OnFound], None],
    ) -> None:
        self.register = register_command(room.lease_ms)
        self._room = room
        self._counts = counts
        self._on_bug = on_bug
        self._ask_node = ask_node
        self._refusal = ""  # to be told of us
        self._registration = Registration(MAX_LEASE_MS / MS_PER_S)

    def tend(self, masters: Sequence[Node], bucket_bits: int) -> None:
        """See that each master has a cache of these buckets, and ask it what it claims."""
        refusals = [self._refusal]
        for node in masters:
            refusals.append(node.refusal)
            link = node.link
            if link is None or not node.tells:
                continue
            near = node.near
            if near is None or near.bucket_bits != bucket_bits:
                if near is not None:
                    # Another store, in other buckets; what is on its way is of the old one.
                    near.ended()
                near = node.near = self._near_of(node, link, bucket_bits)
            near.resize(self._room.max_bytes // len(masters))
            refusals.append(near.refusal)
            near.claim()
        self._counts.refusal = next(filter(None, refusals), "")

    def registered(self, sent_at_s: float, reply: object) -> None:
        """Take the reply to `register`."""
        self._refusal = ""
        if isinstance(reply, hiredis.ReplyError):
            self._refusal = str(reply).partition(" ")[0]
        elif isinstance(reply, int):
            self._registration.confirm(sent_at_s, uptime_s())

    def _near_of(self, node: Node, link: Link, bucket_bits: int) -> NodeNear:
        def ask(id_: bytes, flight: Flight) -> None:
            self._ask_node(node, id_, flight)

        def send_claim(taker: OnFound) -> object:
            return node.send(_CLAIM, 1, taker)

        near = NodeNear(
            ask,
            send_claim,
            bucket_bits,
            self._counts,
            self._on_bug,
            self._registration,
            clock_s=uptime_s,
            lease_s=self._room.lease_s,
            max_bytes=0,
        )
        link.listener = near
        return near
