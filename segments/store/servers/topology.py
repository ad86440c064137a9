"""
The slots of a Redis Cluster's nodes, as seen by a node.

Nodes need not agree: new or cut-off nodes have another view. Of the views of most slots the newest
counts, by the cluster's epoch, which rises with every failover.

Unlike CLUSTER SLOTS, CLUSTER SHARDS lists masters without slots: a new master is caught up before
its first slot arrives.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SHARDS_COMMAND: tuple[bytes, ...] = (b"CLUSTER", b"SHARDS")
EPOCH_COMMAND: tuple[bytes, ...] = (b"CLUSTER", b"INFO")


class Address(NamedTuple):
    """Host and port of a node."""

    host: str
    port: int


class Shard(NamedTuple):
    """A master, its slots, and its replicas."""

    master: Address
    slots: tuple[tuple[int, int], ...]  # first and last of each range
    replicas: tuple[Address, ...]


class View(NamedTuple):
    """A node's view of the whole Cluster."""

    epoch: int
    shards: tuple[Shard, ...]

    @property
    def covered(self) -> int:
        """The number of slots with a master, healthy or not."""
        return sum(last - first + 1 for shard in self.shards for first, last in shard.slots)

    def master_of(self, slot: int) -> Address | None:
        """Return the master of a slot, if any."""
        for shard in self.shards:
            if any(first <= slot <= last for first, last in shard.slots):
                return shard.master
        return None


class Unintelligible(ValueError):
    """A node's reply does not follow the protocol."""


def view_of(shards: object, info: object, asked: str, *, is_tls: bool) -> View:
    """
    Parse the replies to `SHARDS_COMMAND`, in either version of the protocol, and `EPOCH_COMMAND`.

    `asked` is the host that sent them; some nodes omit their own. `is_tls` returns the TLS ports.

    Raises:
        Unintelligible: The replies are malformed.
    """
    if not isinstance(info, bytes) or not isinstance(shards, list):
        raise Unintelligible("not the replies of a cluster's node")
    epoch = re.search(rb"^cluster_current_epoch:(\d+)", info, re.MULTILINE)
    if epoch is None:
        raise Unintelligible("the node does not say its epoch")
    try:
        found = [_shard(each, asked, is_tls) for each in shards]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unintelligible("the node's CLUSTER SHARDS can't be read") from None
    return View(int(epoch[1]), tuple(shard for shard in found if shard is not None))


def best(views: Sequence[View]) -> View:
    """Return the view to use; `views` is not empty."""
    return max(views, key=lambda view: (view.covered, view.epoch))


def _shard(raw: object, asked: str, is_tls: bool) -> Shard | None:
    """Parse a shard; `None`: remains of a failed master."""
    fields = _fields(raw)
    bounds = fields[b"slots"]
    slots = tuple(zip(map(int, bounds[::2]), map(int, bounds[1::2]), strict=True))
    masters, replicas = [], []
    for node in map(_fields, fields[b"nodes"]):
        address = Address(_host(node, asked), _port(node, is_tls))
        has_failed = node[b"health"] == b"fail"
        if node[b"role"] == b"master":
            masters.append((has_failed, address))
        elif not has_failed:
            replicas.append(address)
    has_failed, master = min(masters, default=(True, None))
    if master is None or (has_failed and not slots):
        return None
    return Shard(master, slots, tuple(replicas))


def _fields(raw: object) -> Mapping[bytes, Any]:
    if isinstance(raw, dict):
        return raw
    if not isinstance(raw, list):
        raise Unintelligible("not a map")
    return dict(zip(raw[::2], raw[1::2], strict=True))


def _host(node: Mapping[bytes, object], asked: str) -> str:
    endpoint = node.get(b"endpoint") or node.get(b"ip")
    if not isinstance(endpoint, bytes) or endpoint in {b"", b"?"}:
        return asked
    return endpoint.decode()


def _port(node: Mapping[bytes, object], is_tls: bool) -> int:
    port = node.get(b"tls-port" if is_tls else b"port")
    if not isinstance(port, int):
        raise Unintelligible("a node without a port")
    return port
