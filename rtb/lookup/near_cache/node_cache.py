"""
The near cache of one node of a Redis Cluster, which has only some slots, and not for ever.

    CLUSTER NODES    what it claims to have     as before, and then the lease is renewed
    HGET             answered by itself    ---  by when the two were sent; else all is
                                                forgotten

The argument of `segments.store.cache_lease` is of one server: whatever was written before it
was asked, it has told of. In a Cluster the write may have gone to another node, to which
the slot has moved, and of which ours tells nothing: of a bucket that it never had it has
nothing to delete. So the law here is that **a hit is what the node itself would have
answered, had it been asked a moment, of less than a lease, before**:

- A lease begins only where the node was asked for its claim and, behind that, for an id,
  and has answered the id itself, and not by MOVED, ASK or CLUSTERDOWN. So it was a master
  then, one that its cluster did not refuse to serve with, and had these slots.
- The claim names slots that are about to leave (`[slot->-node]`): of those nothing is
  kept, for a write may have gone to the other node by ASK while the slot is still ours.
- Any other claim than the one before, and all that was kept is forgotten. A slot that
  left and came back between two looks has changed it too: to take it back, the node
  must have a greater epoch than who had it.
- An answer that came by way of a redirection is not kept: it is of another node.

From there on it is the argument for one server. What no node knows of itself, a cache
can't know either: a master that was replaced and has not heard of it answers as before,
with a cache or without.

A writer finds out that we cache by one key, on one node, which may be lost with its node
and whatever a replica lacked of it. So it is set anew with every look at the cluster, and
stands for `MAX_LEASE_MS` from when it was sent: before anybody takes that node's place it
has been silent for `cluster-node-timeout`, which has to be no less than this second, and
we have not answered from what we keep for as long. A replica that is told by hand to take
over at once (`CLUSTER FAILOVER TAKEOVER`, `FORCE`), before it has heard that the first
worker caches, is the case that this leaves.
"""

from collections.abc import Callable

import hiredis

from rtb.lookup.link import Found, LookupFault, OnFound, TakesErrors
from rtb.lookup.near_cache.cache import AskStore, NearCache
from rtb.lookup.near_cache.lease import Counts, Registration
from segments.store.servers.topology import NO_SLOTS, Claim, Unintelligible, claim_of


class NodeNear(NearCache):
    """
    What is kept of what one node has said.

    Args:
        send_claim: Asks the node for its claim, on the same link.
        ask_store, bucket_bits, counts, on_bug, registration, clock_s, lease_s, max_bytes: See
            `NearCache`.

    Attributes:
        firm: For each slot, 1 where what the node says may be kept.
        refusal: Why nothing may, if that is the node's.
    """

    __slots__ = ("_claim", "_send_claim", "firm", "refusal")

    def __init__(
        self,
        ask_store: AskStore,
        send_claim: Callable[[OnFound], object],
        bucket_bits: int,
        counts: Counts,
        on_bug: Callable[[Exception], None],
        registration: Registration,
        *,
        clock_s: Callable[[], float],
        lease_s: float,
        max_bytes: int,
    ) -> None:
        super().__init__(
            ask_store,
            bucket_bits,
            counts,
            on_bug,
            registration,
            clock_s=clock_s,
            lease_s=lease_s,
            max_bytes=max_bytes,
        )
        self.firm = NO_SLOTS
        self.refusal = ""
        self._claim: Claim | None = None
        self._send_claim = send_claim

    def claim(self) -> None:
        """Ask the node what it has."""
        self._send_claim(_Claimed(self))

    def _vouch(self, now_s: float) -> bool:
        if now_s < self._renew_at_s:
            return False
        self.claim()
        return super()._vouch(now_s)

    def claimed(self, reply: object) -> None:
        """Take what the node has said, in its place between the replies."""
        claim: Claim | None = None
        self.refusal = ""
        if isinstance(reply, hiredis.ReplyError):
            self.refusal = str(reply).partition(" ")[0]
        else:
            try:
                claim = claim_of(reply)
            except Unintelligible as error:
                self.refusal = str(error)
        if claim != self._claim or claim is None:
            self.forget()
            self._claim = claim
            self.firm = NO_SLOTS if claim is None else claim.firm()

    def ended(self) -> None:
        """Forget everything: what changes from now on, nobody will tell us."""
        self.firm = NO_SLOTS
        super().ended()


class _Claimed(TakesErrors):
    """Takes the reply to the question for a claim."""

    __slots__ = ("_near",)

    def __init__(self, near: NodeNear) -> None:
        self._near = near

    def __call__(self, answer: Found | LookupFault) -> None:
        if not isinstance(answer, LookupFault):
            self._near.claimed(answer[0])
