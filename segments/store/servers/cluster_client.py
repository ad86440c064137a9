"""
A client of a Redis Cluster that the code for one server can use as it is.

redis-py finds the nodes, keeps their connections, and says which of them has a
slot. How commands get there is ours, one loop for a single command and for a
pipeline of many:

    by slot -> one write per node -> MOVED: there, and remember   | again, what
                                     ASK: there, with ASKING      | is left of it
                                     node gone, CLUSTERDOWN: a pause, a new map |

What redis-py's own loop does not give: ASKING must go ahead on the connection of
its command (a pool hands out another one), a MOVED must not close connections
that others wait on, and "no node can be reached" must be a lost connection like
any other, so that whoever waits out a lost server waits out a lost cluster too.

Every command of ours may be repeated (see `segments.store.servers.connection`), so one
that was sent and not answered is sent again. There are no transactions: what has
to be done at once is one script on keys of one slot.

**A write that must not be lost** does not go by the map that we have. A master that
hung until a replica took its place says yes to what stands in its connections, in
the moment before it learns that it was replaced, and then forgets it (seen on both
engines, each time). So an opt-out goes to whom the nodes name now, by `pipeline(surely=True)`:

    the ledger has it  ->  most nodes say who has the slots  ->  it is sent there

That is enough, for an heir answers no bid before a loader, whom the nodes told of it,
has brought in all that the ledger had (`segments.projection.catalog`). If our entry was
there by then, it is among that. If not, the nodes knew the heir before we asked them,
which it told all of them at once when it was promoted. The same holds of what the loader
itself brings in. Weighed and left: to look who has the slots after the write, which
costs as much and must know of each reply whose it was; and WAIT, for a master may
have no replica, or one that follows it into the same end. Measured, in six nodes: 0.6 ms
of CPU for one opt-out, a tenth more for a thousand together.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode, ClusterPipeline, PipelineCommand
from redis.asyncio.connection import SSLConnection
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    RedisClusterException,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from segments.store.keys import slot_of
from segments.store.servers.majority import ask_majority
from segments.store.servers.topology import (
    EPOCH_COMMAND,
    SHARDS_COMMAND,
    Address,
    Unintelligible,
    View,
    best,
    view_of,
)

_MAX_ROUNDS = 16
"""Redirections of one command; each has a reason that passes."""

_MAX_PAUSES = 4
_PAUSE_S = 0.1
"""Waits for a node that is gone: 0.1 + 0.2 + 0.3 + 0.4 s, no failover in all, but a hiccup."""

_AWAY = (RedisConnectionError, RedisTimeoutError, ClusterDownError, RedisClusterException, OSError)

# Where the key stands, if not right behind the command.
_KEY_AT = {"EVAL": 3, "EVALSHA": 3}

_KEYLESS = frozenset({"CLUSTER", "CONFIG", "DBSIZE", "INFO", "PING", "PUBLISH", "SCAN", "SCRIPT"})


class Cluster(RedisCluster):
    """Like redis-py's client of a cluster, but for what the module's law says."""

    async def __aenter__(self) -> "Cluster":
        # Like the client of one server: that nobody is there is found out by a command, where
        # whoever sends it is prepared for that.
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Hang up on all nodes, those too that were to be found again."""
        self._initialize = False  # or redis-py takes it for closed
        await super().aclose()

    async def initialize(self, *args: Any, **kwargs: Any) -> "Cluster":
        """
        Find the nodes.

        Raises:
            redis.exceptions.ConnectionError: None can be reached, or they don't agree.
        """
        try:
            await super().initialize(*args, **kwargs)
        except RedisClusterException as error:
            raise _unreachable(error) from None
        return self

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Send one command to whom its key belongs, or to the nodes that it is for."""
        if "target_nodes" in kwargs or _name(args[0]) in _KEYLESS:
            try:
                return await super().execute_command(*args, **kwargs)
            except RedisClusterException as error:
                raise _unreachable(error) from None
        command = PipelineCommand(0, *args, **kwargs)
        await self.run([command])
        if isinstance(command.result, Exception):
            raise command.result
        return command.result

    def node(self, address: Address) -> ClusterNode:
        """Return the node at an address, with its connections."""
        node = self.get_node(host=address.host, port=address.port)
        if node is None:
            node = ClusterNode(address.host, address.port, "primary", **self.connection_kwargs)
            self.nodes_manager.set_nodes(self.nodes_manager.nodes_cache, {node.name: node})
        return node

    @property
    def is_tls(self) -> bool:
        """Tell whether it speaks TLS."""
        return self.connection_kwargs["connection_class"] is SSLConnection

    def look_anew(self) -> None:
        """Find the nodes again before the next command."""
        # Not `aclose`, which cuts off whoever waits for a node that is well.
        self._initialize = True

    async def view(self) -> View:
        """
        Ask the nodes who has which slots, and return what the newest of their views says.

        Raises:
            redis.exceptions.ConnectionError: None answers.
        """
        await self.initialize()
        views = await ask_majority([self._view_of(node) for node in self.get_nodes()])
        if not views:
            self.look_anew()
            raise RedisConnectionError("no node of the cluster says who has which slots")
        return best(views)

    def pipeline(
        self, transaction: Any = None, shard_hint: Any = None, *, surely: bool = False
    ) -> "ClusterPipeline":
        """
        Return a pipeline; what it collects is sent in one write per node.

        Args:
            transaction: Never.
            shard_hint: For redis-py alone.
            surely: Whether the nodes are asked first who has the slots, once: see the module.
        """
        assert not transaction, "commands that belong together are a script: see the module"
        return _Pipeline(self, surely)  # type: ignore[abstract] # for redis-py alone: it never is missed

    async def run(
        self, commands: Sequence[PipelineCommand], view: View | None = None
    ) -> View | None:
        """
        Send commands, each of one slot; each one's `result` is its reply or what went wrong.

        Args:
            commands: To send.
            view: Whom to send them to, and if that fails whom a new one names; without,
                it is whom we believe to have the slots.

        Returns:
            The last view, if one was given.
        """
        todo: list[tuple[PipelineCommand, ClusterNode | None]] = [(one, None) for one in commands]
        pauses = 0
        for round_ in range(_MAX_ROUNDS):
            try:
                await self.initialize()
                if view is not None:
                    view = await self.view() if round_ else view
                    # No other task comes in between: `_send` takes its nodes at once.
                    self._go_by(view, (_slot_of(command) for command, _ in todo))
                await self._send(todo)
            except _AWAY as error:
                for command, _ in todo:
                    command.result = error
            again, is_away = self._left(todo)
            if not again:
                return view
            if is_away:
                if pauses == _MAX_PAUSES:
                    break
                pauses += 1
                await asyncio.sleep(_PAUSE_S * pauses)
                self.look_anew()
            todo = again
        for command, _ in todo:
            if not isinstance(command.result, RedisError):
                command.result = _unreachable(command.result)
            elif isinstance(command.result, (AskError, TryAgainError, ClusterDownError)):
                command.result = RedisConnectionError(
                    f"the cluster does not settle ({type(command.result).__name__})"
                )
        return view

    async def _send(self, todo: Sequence[tuple[PipelineCommand, ClusterNode | None]]) -> None:
        name_to_batch: dict[str, tuple[ClusterNode, list[PipelineCommand]]] = {}
        for command, asked in todo:
            node = asked or self._node_of(_slot_of(command))
            _, batch = name_to_batch.setdefault(node.name, (node, []))
            if asked is not None:
                batch.append(PipelineCommand(0, "ASKING"))
            batch.append(command)
        await asyncio.gather(*(self._send_to(*each) for each in name_to_batch.values()))

    async def _send_to(self, node: ClusterNode, batch: list[PipelineCommand]) -> None:
        try:
            await node.execute_pipeline(batch)
        except (RedisError, OSError) as error:
            for command in batch:
                command.result = error

    def _left(
        self, sent: Sequence[tuple[PipelineCommand, ClusterNode | None]]
    ) -> tuple[list[tuple[PipelineCommand, ClusterNode | None]], bool]:
        """Return what has to be sent again, and to whom; and whether that must wait."""
        again: list[tuple[PipelineCommand, ClusterNode | None]] = []
        is_away = False
        for command, _ in sent:
            result = command.result
            if isinstance(result, MovedError):
                self._move(result)
                again.append((command, None))
            elif isinstance(result, AskError):
                again.append((command, self.node(Address(result.host, result.port))))
            elif isinstance(result, TryAgainError) or (
                isinstance(result, _AWAY) and not isinstance(result, BusyLoadingError)
            ):
                is_away = True
                again.append((command, None))
        return again, is_away

    def _node_of(self, slot: int) -> ClusterNode:
        nodes = self.nodes_manager.slots_cache.get(slot)
        if not nodes:
            raise ClusterDownError("a slot has no master")
        return nodes[0]

    def _move(self, moved: MovedError) -> None:
        self._note(moved.slot_id, Address(moved.host, moved.port))

    def _go_by(self, view: View, slots: Iterable[int]) -> None:
        for slot in slots:
            self._note(slot, view.master_of(slot))

    def _note(self, slot: int, master: Address | None) -> None:
        # The list may be shared with other slots: it is replaced, never changed.
        self.nodes_manager.slots_cache[slot] = [] if master is None else [self.node(master)]

    async def _view_of(self, node: ClusterNode) -> View | None:
        try:
            shards = await node.execute_command(*SHARDS_COMMAND)
            info = await node.execute_command(*EPOCH_COMMAND)
            return view_of(shards, info, node.host, is_tls=self.is_tls)
        except (RedisError, OSError, Unintelligible):
            return None


class _Pipeline(ClusterPipeline):
    """Collects commands as redis-py's does, and sends them as the module says."""

    def __init__(self, client: Cluster, surely: bool) -> None:
        super().__init__(client)
        self._client = client
        self._surely = surely
        self._view: View | None = None
        self._commands: list[PipelineCommand] = []

    async def initialize(self) -> "_Pipeline":
        """Begin; nothing is sent yet."""
        return self

    async def reset(self) -> None:  # type: ignore[override] # as redis-py itself
        """Drop what was collected."""
        self._commands = []

    def execute_command(self, *args: Any, **kwargs: Any) -> "_Pipeline":
        """Collect a command."""
        self._commands.append(PipelineCommand(len(self._commands), *args, **kwargs))
        return self

    def unlink(self, *names: Any) -> Any:
        """Collect an UNLINK of one key; redis-py's own has to be awaited."""
        return self.execute_command("UNLINK", *names)

    async def execute(
        self, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        """Send what was collected, and return the replies in its order."""
        commands, self._commands = self._commands, []
        if commands:
            if self._surely and self._view is None:
                self._view = await self._client.view()
            self._view = await self._client.run(commands, self._view)
        results = [command.result for command in commands]
        if raise_on_error:
            for result in results:
                if isinstance(result, Exception):
                    raise result
        return results


def _slot_of(command: PipelineCommand) -> int:
    key = command.args[_KEY_AT.get(_name(command.args[0]), 1)]
    return slot_of(key if isinstance(key, bytes) else str(key).encode())


def _name(command: object) -> str:
    # redis-py writes some in two words: "SCRIPT LOAD".
    text = command.decode() if isinstance(command, bytes) else str(command)
    return text.partition(" ")[0].upper()


def _unreachable(error: object) -> RedisConnectionError:
    # By its kind only: the text may hold an address, or what was sent.
    return RedisConnectionError(f"the cluster can't be reached ({type(error).__name__})")
