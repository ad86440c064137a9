"""
A real Redis Cluster under a test's hands: three masters, a replica of each, one machine.

It is put together by the commands that `redis-cli --cluster` sends, so nothing
but the servers is needed. A node is an `Engine`, which can be killed, frozen and
started again; slots can be moved, and nodes added and removed, while it serves.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

import redis

from segments.store.keys import SLOTS
from segments.store.reader import parse_run
from tests.engines import Engine, free_port
from tests.tls import TestCa

NODE_TIMEOUT_MS = 1500
"""Short, for a failover takes about twice that; not so short that a busy machine makes some."""

_MASTERS = 3
_WITHIN_S = 30.0


class Known(NamedTuple):
    """A node as another one knows it: a line of CLUSTER NODES."""

    id: str
    port: int
    flags: frozenset[str]
    master_id: str
    slots: int


class TestCluster:
    """
    Six nodes, the first three of them masters until a test changes that.

    Args:
        engine: Of the nodes.
        password: What they demand, of each other as well; empty: nothing.
        ca: Whose certificate they show, each other as well, and speak nothing but TLS; of
            the engines only Debian's redis-server can.
    """

    __test__ = False  # a part of tests, and none

    def __init__(self, engine: str, *, password: str = "", ca: TestCa | None = None) -> None:
        self.engine = engine
        self.password = password
        self.ca = ca
        self.nodes = [self._node() for _ in range(2 * _MASTERS)]

    @property
    def url(self) -> str:
        """Where the product finds it: three of its nodes, as an operator would write it."""
        seeds = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:_MASTERS])
        if self.ca is None:
            return f"redis+cluster://{self._login}{seeds}"
        return f"rediss+cluster://{self._login}{seeds}?ssl_ca_certs={self.ca.bundle}"

    @property
    def _login(self) -> str:
        return f":{quote(self.password, safe='')}@" if self.password else ""

    def start(self) -> None:
        """Start the nodes, and make a cluster of them."""
        for node in self.nodes:
            node.start()
        masters, replicas = self.nodes[:_MASTERS], self.nodes[_MASTERS:]
        for n, node in enumerate(masters):
            until = SLOTS * (n + 1) // _MASTERS - 1
            self.ask(node, "CLUSTER ADDSLOTSRANGE", SLOTS * n // _MASTERS, until)
        for n, node in enumerate(self.nodes):
            self.ask(node, "CLUSTER SET-CONFIG-EPOCH", n + 1)
        for node in self.nodes[1:]:
            self._meet(node)
        until_true(lambda: all(len(self.known(node)) == len(self.nodes) for node in self.nodes))
        for master, replica in zip(masters, replicas, strict=True):
            self.ask(replica, "CLUSTER REPLICATE", self.id_of(master))
        self._until_healthy()

    def ask(self, node: Engine, command: str, *arguments: object) -> Any:
        """Send one command to one node."""
        with redis.Redis.from_url(node.url, socket_timeout=10) as client:
            return client.execute_command(command, *arguments)

    def id_of(self, node: Engine) -> str:
        """Return the name that the cluster has for a node."""
        return str(self.ask(node, "CLUSTER MYID").decode())

    def known(self, node: Engine) -> list[Known]:
        """Return what a node knows of all, itself included."""
        found = []
        for line in self._raw(node, "CLUSTER NODES").decode().splitlines():
            id_, address, flags, master_id, _, _, _, _, *ranges = line.split()
            port = int(address.partition("@")[0].rpartition(":")[2])
            slots = sum(_size(each) for each in ranges if not each.startswith("["))
            found.append(Known(id_, port, frozenset(flags.split(",")), master_id, slots))
        return found

    def is_healthy(self) -> bool:
        """Tell whether all nodes agree that every slot has a master, and each master a replica."""
        return not any(self._ailment(node) for node in self.nodes)

    def _ailment(self, node: Engine) -> str:
        known = self.known(node)
        if len(known) != len(self.nodes):
            return f"{node.port} knows {len(known)} nodes"
        for each in known:
            if flags := {"fail", "fail?", "handshake"} & each.flags:
                return f"{node.port} takes {each.port} for {flags}"
        masters = {each.id for each in known if "master" in each.flags and each.slots}
        if masters != {each.master_id for each in known if "slave" in each.flags}:
            return f"{node.port} knows a master without replica, or one too many: {known}"
        if sum(each.slots for each in known if "master" in each.flags) != SLOTS:
            return f"{node.port} knows slots without a master: {known}"
        info = self.ask(node, "INFO", "replication")
        if info["role"] == "slave" and info["master_link_status"] != "up":
            return f"{node.port} does not hear of its master: {info}"
        if b"cluster_state:ok" not in self._raw(node, "CLUSTER INFO"):
            return f"{node.port} takes the cluster for down"
        return ""

    def owner_of(self, key: bytes) -> Engine:
        """Return the master that has a key's slot, as most of the nodes that run see it."""
        votes: dict[int, int] = {}
        for node in self.nodes:
            if not node.is_running or node.is_frozen:
                continue
            slot = self.ask(node, "CLUSTER KEYSLOT", key)
            for first, last, master, *_ in self._raw(node, "CLUSTER SLOTS"):
                if first <= slot <= last:
                    votes[master[1]] = votes.get(master[1], 0) + 1
        return self.by_port(max(votes, key=lambda port: votes[port]))

    def by_port(self, port: int) -> Engine:
        """Return the node that listens on a port."""
        return next(node for node in self.nodes if int(node.port) == port)

    def masters(self) -> list[Engine]:
        """Return those that have slots, as the first node that runs sees it."""
        known = self.known(next(node for node in self.nodes if node.is_running))
        return [
            self.by_port(each.port)
            for each in known
            if "master" in each.flags and "fail" not in each.flags and each.slots
        ]

    def replicas_of(self, master: Engine) -> list[Engine]:
        """Return a master's replicas."""
        known = self.known(master)
        id_ = next(each.id for each in known if "myself" in each.flags)
        return [self.by_port(each.port) for each in known if each.master_id == id_]

    def slots_of(self, master: Engine) -> set[int]:
        """Return the slots of a master, as it sees it."""
        return {
            slot
            for first, last, owner, *_ in self._raw(master, "CLUSTER SLOTS")
            if owner[1] == int(master.port)
            for slot in range(first, last + 1)
        }

    def move_slot(
        self, slot: int, source: Engine, target: Engine, while_moving: Callable[[], None] | None
    ) -> None:
        """Move a slot with its keys, one by one, as resharding does."""
        source_id, target_id = self.id_of(source), self.id_of(target)
        self.ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", source_id)
        self.ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", target_id)
        login = ("AUTH", self.password) if self.password else ()
        while keys := self._raw(source, "CLUSTER GETKEYSINSLOT", slot, 1):
            self.ask(source, "MIGRATE", "127.0.0.1", target.port, keys[0], 0, 5000, *login)
            if while_moving is not None:
                while_moving()
        self.ask(target, "CLUSTER SETSLOT", slot, "NODE", target_id)
        self.ask(source, "CLUSTER SETSLOT", slot, "NODE", target_id)

    def cut_off(self, replica: Engine) -> None:
        """Keep a replica from its master, while both go on; until `reconnect`."""
        port = self.ask(replica, "INFO", "replication")["master_port"]
        # It has a password to say that its master has never heard of.
        self.ask(replica, "CONFIG SET", "masterauth", "unknown")
        self.ask(self.by_port(port), "CLIENT KILL", "TYPE", "replica")
        until_true(lambda: not self.is_linked(replica))

    def reconnect(self, replica: Engine) -> None:
        """Let a replica hear of its master again."""
        self.ask(replica, "CONFIG SET", "masterauth", self.password)

    def is_linked(self, replica: Engine) -> bool:
        """Tell whether a replica hears of its master."""
        return bool(self.ask(replica, "INFO", "replication")["master_link_status"] == "up")

    def add_node(self) -> Engine:
        """Start a seventh node; it is a master without slots."""
        node = self._node()
        node.start()
        self.nodes.append(node)
        self._meet(node)
        until_true(lambda: all(len(self.known(each)) == len(self.nodes) for each in self.nodes))
        return node

    def remove_node(self, node: Engine) -> None:
        """Take a node without slots out of the cluster, as `redis-cli --cluster del-node` does."""
        id_ = self.id_of(node)
        self.nodes.remove(node)
        for other in self.nodes:
            self.ask(other, "CLUSTER FORGET", id_)
        node.remove()

    def heal(self) -> None:
        """Bring all nodes back, empty, whatever a test has done to them."""
        self.heal_without_emptying()
        for node in self.masters():
            self.ask(node, "CONFIG SET", "min-replicas-to-write", 0)
            self.ask(node, "FLUSHALL")
            self.ask(node, "SCRIPT FLUSH")

    def heal_without_emptying(self) -> None:
        """Bring all nodes back, with what they hold."""
        for node in self.nodes:
            node.thaw()
            node.start()
            self.reconnect(node)
        self._until_healthy()

    def remove(self) -> None:
        """End all nodes and delete their data."""
        for node in self.nodes:
            node.remove()

    def _until_healthy(self) -> None:
        seen = ""

        def is_healthy() -> bool:
            nonlocal seen
            seen = next(filter(None, map(self._ailment, self.nodes)), "")
            return not seen

        try:
            until_true(is_healthy)
        except AssertionError as error:
            raise AssertionError(f"the cluster does not get well: {seen}") from error

    def _node(self) -> Engine:
        extra = [
            *("--cluster-enabled", "yes"),
            *("--cluster-port", free_port()),
            *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
            # A slot without a master is that slot's own trouble: see docs/operations.md.
            *("--cluster-require-full-coverage", "no"),
            *("--cluster-allow-replica-migration", "no"),
            *("--repl-diskless-sync-delay", "0"),
        ]
        if self.password:
            extra += ["--requirepass", self.password, "--masterauth", self.password]
        node = Engine(self.engine)
        node.url = f"unix://{self._login}{node.dir}/s.sock"
        if self.ca is not None:
            extra += [
                *("--port", "0", "--tls-port", node.port),
                *("--tls-cluster", "yes", "--tls-replication", "yes", "--tls-auth-clients", "no"),
                *("--tls-cert-file", str(self.ca.cert), "--tls-key-file", str(self.ca.key)),
                *("--tls-ca-cert-file", str(self.ca.bundle)),
            ]
            # Asked over the socket, it would name the ports that it does not have.
            node.url = f"rediss://{self._login}127.0.0.1:{node.port}?ssl_ca_certs={self.ca.bundle}"
        node.extra = tuple(extra)
        return node

    def _meet(self, node: Engine) -> None:
        first = self.nodes[0]
        bus = _bus_port(node)
        self.ask(first, "CLUSTER MEET", "127.0.0.1", node.port, bus)

    def _raw(self, node: Engine, command: str, *arguments: object) -> Any:
        return node.ask(command, *arguments)


@contextmanager
def running_cluster(
    engine: str, *, password: str = "", ca: TestCa | None = None
) -> Iterator[TestCluster]:
    """Run a cluster for a while; see `TestCluster`."""
    cluster = TestCluster(engine, password=password, ca=ca)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def run_of(master: Engine) -> bytes:
    """Return what a master calls its run."""
    return parse_run(master.ask("INFO"))


def until_true(claim: Callable[[], bool]) -> None:
    """Wait until something holds that no event tells of."""
    deadline = time.monotonic() + _WITHIN_S
    while True:
        try:
            if claim():
                return
        except redis.RedisError:  # a node that is busy with its start
            pass
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.02)


async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do a test's own work beside the event loop that serves."""
    return await asyncio.to_thread(work, *arguments)


def _bus_port(node: Engine) -> str:
    return node.extra[node.extra.index("--cluster-port") + 1]


def _size(slots: str) -> int:
    first, _, last = slots.partition("-")
    return int(last or first) - int(first) + 1
