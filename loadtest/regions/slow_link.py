"""
The link between two regions: a TCP proxy that delays every byte, and that can be cut.

Each direction delivers bytes `delay_s` later, in order, and reads on meanwhile: the latency of a
long line without its bandwidth. While the link is cut, nothing passes and no connection is refused,
as on a dead line; bytes on their way arrive after the mending.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from loadtest.servers import HOST

_PIECE_BYTES = 1 << 16
_PIECES = 64


class SlowLink:
    """
    The proxy; an async context manager.

    Args:
        port: Of the server at the far end, on this machine.
        delay_s: In each direction.
    """

    def __init__(self, port: int, delay_s: float) -> None:
        self._far_port = port
        self._delay_s = delay_s
        self._is_whole = asyncio.Event()
        self._is_whole.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> "SlowLink":
        self._server = await asyncio.start_server(self._carry, HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """The port of the near end."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Let nothing pass."""
        self._is_whole.clear()
        try:
            yield
        finally:
            self._is_whole.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "streams start a task for each connection"
        self._tasks.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            await self._is_whole.wait()
            far_reader, far = await asyncio.open_connection(HOST, self._far_port)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._one_way(reader, far))
                group.create_task(self._one_way(far_reader, writer))
        except* OSError:  # a side is gone; both are closed
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, far):
                if end is not None:
                    end.close()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Deliver one side's bytes, each piece at its time, and its end."""
        loop = asyncio.get_running_loop()
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES)

        async def read() -> None:
            piece = b"-"
            while piece:
                piece = await reader.read(_PIECE_BYTES)
                await on_its_way.put((loop.time() + self._delay_s, piece))

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            while True:
                due_s, piece = await on_its_way.get()
                await asyncio.sleep(due_s - loop.time())
                await self._is_whole.wait()
                if not piece:
                    break
                writer.write(piece)
                await writer.drain()
            with suppress(OSError):
                writer.write_eof()
