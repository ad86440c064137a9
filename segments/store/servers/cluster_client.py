"""
A client of a Redis Cluster with a single server's interface.

redis-py finds the nodes, keeps their connections, and maps slots to nodes. The routing is ours, a
loop for commands and pipelines:

    by slot -> one write per node -> MOVED: there, and remember   | repeat the
                                     ASK: there, with ASKING      | rest
                                     node gone, CLUSTERDOWN: a pause, a new map |

redis-py's loop fails in three ways: ASKING must precede its command on the same connection, MOVED
must not close connections that other tasks wait on, and "no node can be reached" must be a lost
connection, which callers wait out.

A command without an answer is sent again, as all may be repeated
(`segments.store.servers.connection`). There are no transactions: an atomic step is a script on keys
of a slot.

**A write that must not be lost** does not rely on our map. A master replaced while it hung
acknowledges commands before it learns of the failover, and then loses them (seen with both engines,
each time). So an opt-out goes to the masters that the nodes name now, by `pipeline(surely=True)`:

    the ledger has it  ->  most nodes name the slots' masters  ->  it is sent there

That suffices: a promoted replica answers no bid before a loader, told by the nodes, has applied all
opt-outs of the ledger (`segments.projection.catalog`). If ours was not among them, the promotion
came before our question, and was announced to all nodes. The same holds for the loader's writes.
Discarded: asking after the write, which costs as much and needs each reply's sender; WAIT, as a
master may have no replica, or lose it. Measured with six nodes: 0.6 ms of CPU for an opt-out, a
tenth more for a thousand together.
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

from segments.store.error_code import note_command, refusal_of
from segments.store.keys import slot_of
from segments.store.servers.at_work import AtWork
from segments.store.servers.cancellation import unless_cancelled
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
"""Redirections of a command, all of them temporary."""

_MAX_PAUSES = 4
_PAUSE_S = 0.1
"""Waits for a lost node: 0.1 + 0.2 + 0.3 + 0.4 s, enough for a hiccup, not for a failover."""

_AWAY = (RedisConnectionError, RedisTimeoutError, ClusterDownError, RedisClusterException, OSError)

# Position of the key, if not directly after the command.
_KEY_AT = {"EVAL": 3, "EVALSHA": 3}

_KEYLESS = frozenset({"CLUSTER", "CONFIG", "DBSIZE", "INFO", "PING", "PUBLISH", "SCAN", "SCRIPT"})


class Cluster(AtWork, RedisCluster):  # type: ignore[misc] # redis-py contradicts itself
    """redis-py's client of a Cluster, with the rules of this module."""

    async def __aenter__(self) -> "Cluster":
        # An unreachable store shows with the first command, where callers expect errors.
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections, even if a new map is due; end background work."""
        await self.end_work()
        self._initialize = False  # otherwise redis-py takes the client for closed
        await super().aclose()

    async def initialize(self, *args: Any, **kwargs: Any) -> "Cluster":
        """
        Find the nodes.

        Raises:
            redis.exceptions.ConnectionError: No node can be reached, or they don't agree.
        """
        try:
            await super().initialize(*args, **kwargs)
        except RedisClusterException as error:
            raise _unreachable(error) from None
        return self

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Send a command to the node of its key, or to its target nodes."""
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
        """Tell whether the client uses TLS."""
        return self.connection_kwargs["connection_class"] is SSLConnection

    def look_anew(self) -> None:
        """Find the nodes again before the next command."""
        # `aclose` would cut off tasks at healthy nodes.
        self._initialize = True

    async def view(self) -> View:
        """
        Ask the nodes for the slots' masters, and return the newest view.

        Raises:
            redis.exceptions.ConnectionError: No node answers.
        """
        await self.initialize()
        refused: list[RedisError] = []
        views = await ask_majority([self._view_of(node, refused) for node in self.get_nodes()])
        if not views:
            self.look_anew()
            why = refused[0] if refused else None
            raise _in_words_of_ours("no node of the cluster says who has which slots", why)
        return best(views)

    def pipeline(
        self, transaction: Any = None, shard_hint: Any = None, *, surely: bool = False
    ) -> "ClusterPipeline":
        """
        Return a pipeline, which sends one write per node.

        `surely` asks the nodes for the slots' masters first: see the module.
        """
        assert not transaction, "commands that belong together are a script: see the module"
        return _Pipeline(self, surely)  # type: ignore[abstract] # for redis-py alone: it never is missed

    async def run(
        self, commands: Sequence[PipelineCommand], view: View | None = None
    ) -> View | None:
        """
        Send commands of a single slot each; `result` becomes the reply or error.

        A `view` names the masters, instead of our map; the last view is returned.
        """
        todo: list[tuple[PipelineCommand, ClusterNode | None]] = [(one, None) for one in commands]
        pauses = 0
        for round_ in range(_MAX_ROUNDS):
            try:
                await self.initialize()
                if view is not None:
                    view = await self.view() if round_ else view
                    # `_send` picks its nodes before any other task runs.
                    self._go_by(view, (_slot_of(command) for command, _ in todo))
                await unless_cancelled(self._send(todo))
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
                command.result = _in_words_of_ours(
                    f"the cluster does not settle ({type(command.result).__name__})", command.result
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
        for command in batch:
            if isinstance(command.result, RedisError):
                note_command(command.result, command.args[0])

    def _left(
        self, sent: Sequence[tuple[PipelineCommand, ClusterNode | None]]
    ) -> tuple[list[tuple[PipelineCommand, ClusterNode | None]], bool]:
        """Return the commands to repeat, with nodes; and whether to wait first."""
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
        # Other slots may share the list.
        self.nodes_manager.slots_cache[slot] = [] if master is None else [self.node(master)]

    async def _view_of(self, node: ClusterNode, refused: list[RedisError]) -> View | None:
        try:
            shards = await node.execute_command(*SHARDS_COMMAND)
            info = await node.execute_command(*EPOCH_COMMAND)
            return view_of(shards, info, node.host, is_tls=self.is_tls)
        except RedisError as error:
            if refusal_of(error) is not None:
                refused.append(error)
            return None
        except (OSError, Unintelligible):
            return None


class _Pipeline(ClusterPipeline):
    """redis-py's pipeline by the module's rules."""

    def __init__(self, client: Cluster, surely: bool) -> None:
        super().__init__(client)
        self._client = client
        self._surely = surely
        self._view: View | None = None
        self._commands: list[PipelineCommand] = []

    async def initialize(self) -> "_Pipeline":
        """Do nothing: commands are sent by `execute`."""
        return self

    async def reset(self) -> None:  # type: ignore[override] # as redis-py itself
        """Drop the collected commands."""
        self._commands = []

    def execute_command(self, *args: Any, **kwargs: Any) -> "_Pipeline":
        """Collect a command."""
        self._commands.append(PipelineCommand(len(self._commands), *args, **kwargs))
        return self

    def unlink(self, *names: Any) -> Any:
        """Collect an UNLINK of a key; redis-py's must be awaited."""
        return self.execute_command("UNLINK", *names)

    async def execute(
        self, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        """Send the collected commands; return the replies in order."""
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
    # redis-py writes some commands as two words: "SCRIPT LOAD".
    text = command.decode() if isinstance(command, bytes) else str(command)
    return text.partition(" ")[0].upper()


def _unreachable(error: object) -> RedisConnectionError:
    # The text may contain an address, or arguments.
    return _in_words_of_ours(f"the cluster can't be reached ({type(error).__name__})", error)


def _in_words_of_ours(words: str, error: object) -> RedisConnectionError:
    """Return an error whose cause only `refusal_of` sees."""
    said = RedisConnectionError(words)
    said.__context__ = error if isinstance(error, BaseException) else None
    said.__suppress_context__ = True
    return said
