"""
What a partner sends by SFTP once it is logged in: packets, through asyncssh's reader of them to
our session, over a real folder.

Each packet that is whole is answered, once, with its own number; nothing is left open; nothing
is written but in the partner's folder, and no file is larger than one may be.
"""

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import asyncssh
from asyncssh.logging import logger
from asyncssh.sftp import SFTPServerHandler
from prometheus_client import CollectorRegistry

from segments.doors.live_audience.folder import DropFolder
from segments.doors.live_audience.metrics import DeliveryMetrics
from segments.doors.sftp.metrics import SftpMetrics
from segments.doors.sftp.options import SftpOptions
from segments.doors.sftp.refusal_log import RefusalLog
from segments.doors.sftp.session import Session
from tests.fuzz.forms import packed, packet_splice, packets_of
from tests.fuzz.target import Check, Target

_INIT = packed([b"\x01\0\0\0\3"])
_MAX_FILE_BYTES = 10_000
_MAX_PACKET_BYTES = 4 << 20  # asyncssh's own limit
_STATUS, _READ, _WRITE, _CREATE, _TRUNCATE = 101, 1, 2, 8, 16
_HEAD_BYTES = 5
_FIRST_HANDLE = bytes(4)
_CONTENT = b"0123456789"


class _Channel:
    """What a session asks of its connection."""

    logger = logger

    def exit(self, status: int) -> None:
        assert status == 0

    def is_closing(self) -> bool:
        return False


class _Wire:
    """A client's bytes, and what it is sent."""

    logger = logger

    def __init__(self, data: bytes) -> None:
        self.channel = _Channel()
        self.sent: list[bytes] = []
        self._data = data

    async def readexactly(self, count: int) -> bytes:
        if len(self._data) < count:
            raise asyncio.IncompleteReadError(self._data, count)
        read, self._data = self._data[:count], self._data[count:]
        return read

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        """Both sides are done."""


async def _within_quota() -> str:
    return ""


class _Door:
    """A partner's folder, for one input after the other."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._options = SftpOptions(
            "", 0, path, 1, 1, 1, 1, _MAX_FILE_BYTES, reserve_bytes=None, max_handles=4
        )
        self._metrics = SftpMetrics(CollectorRegistry())
        self._deliveries = DeliveryMetrics(CollectorRegistry())
        silent = logging.getLogger("tests.fuzz.sftp")
        silent.disabled = True
        self._refusals = RefusalLog(silent)

    def answered(self, data: bytes) -> tuple[list[bytes], bool]:
        """Return the answers to a client's packets, and whether its session is over."""
        return self._loop.run_until_complete(self._answered(data))

    def _is_as_it_was(self, folder: Path) -> bool:
        try:
            names = os.listdir(folder)  # noqa: PTH208 - names
        except FileNotFoundError:
            return False
        return names == ["there.txt"] and (folder / "there.txt").read_bytes() == _CONTENT

    async def _answered(self, data: bytes) -> tuple[list[bytes], bool]:
        ended: list[None] = []
        drop = self._path / "drop"
        if not self._is_as_it_was(drop / "shop"):
            shutil.rmtree(drop, ignore_errors=True)
            DropFolder(drop).of("shop")
            (drop / "shop" / "there.txt").write_bytes(_CONTENT)
        folder = DropFolder(drop).of("shop")
        wire = _Wire(_INIT + data)
        session = Session(
            cast("Any", wire.channel),
            "shop",
            folder,
            self._options,
            metrics=self._metrics,
            deliveries=self._deliveries,
            refusals=self._refusals,
            over_quota=_within_quota,
            ended=lambda: ended.append(None),
        )
        handler = SFTPServerHandler(session, cast("Any", wire), cast("Any", wire), 3)
        await handler.run()
        await asyncio.sleep(0)  # a file that was closed counts as such a turn later
        assert not session._handles, "a file has stayed open"
        mine = str(drop / "shop")
        for place, _, names in os.walk(self._path):
            assert not names or place.startswith(mine), "written elsewhere"
            sizes = (os.stat(f"{place}/{name}").st_size for name in names)  # noqa: PTH116 - quick
            assert all(size <= _MAX_FILE_BYTES for size in sizes), "too large a file"
        return wire.sent[1:], len(ended) == 1


@contextmanager
def _checking() -> Iterator[Check]:
    asyncssh.set_log_level(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    door = _Door(folder, loop)

    def check(data: bytes) -> Hashable:
        sent, is_over = door.answered(data)
        assert is_over, "the session was not ended once"
        numbers = [answer[_HEAD_BYTES : _HEAD_BYTES + 4] for answer in sent]
        assert numbers == _asked(data), "not one answer a packet"
        kinds = {(answer[4], answer[12] if answer[4] == _STATUS else 0) for answer in sent}
        return tuple(sorted(kinds))

    try:
        yield check
    finally:
        loop.close()
        shutil.rmtree(folder)


def _asked(data: bytes) -> list[bytes]:
    """Return the numbers of the packets that are read: up to the first that is none."""
    numbers = []
    while len(data) >= 4:
        length = int.from_bytes(data[:4], "big")
        packet, data = data[4 : 4 + length], data[4 + length :]
        if not _HEAD_BYTES <= length <= _MAX_PACKET_BYTES or len(packet) < length:
            break
        numbers.append(packet[1:5])
    return numbers


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _number(value: int, width: int = 4) -> bytes:
    return value.to_bytes(width, "big")


def _extended(name: bytes, rest: bytes) -> tuple[int, bytes]:
    return 200, _text(name) + rest


def _session(*requests: tuple[int, bytes]) -> bytes:
    return packed([bytes((kind,)) + _number(at) + rest for at, (kind, rest) in enumerate(requests)])


def _seeds() -> Sequence[bytes]:
    no_attrs, handle = _number(0), _text(_FIRST_HANDLE)
    size_attr = _number(1) + _number(20_000, 8)
    new = _text(b"new.txt") + _number(_WRITE | _CREATE | _TRUNCATE) + no_attrs
    return [
        _session((3, new), (6, handle + _number(0, 8) + _text(b"x" * 50)), (4, handle)),
        _session((3, new), (6, handle + _number(9_999, 8) + _text(b"xy"))),
        _session((3, new), (10, handle + size_attr), (4, handle)),
        _session((3, _text(b"/there.txt") + _number(_READ) + no_attrs),
                 (5, handle + _number(2, 8) + _number(100)), (8, handle), (4, handle)),
        _session((11, _text(b".")), (12, handle), (12, handle), (4, handle)),
        _session((16, _text(b"a/../..")), (17, _text(b"there.txt")), (7, _text(b"/"))),
        _session((18, _text(b"there.txt") + _text(b".hidden")), (13, _text(b"there.txt"))),
        _session((18, _text(b"there.txt") + _text(b"b.txt.json")), (9, _text(b"b") + size_attr)),
        _session((14, _text(b"d") + no_attrs), (15, _text(b"d")), (19, _text(b"x")),
                 (20, _text(b"a") + _text(b"b"))),
        _session(_extended(b"posix-rename@openssh.com", _text(b"there.txt") + _text(b"c"))),
        _session((3, new), _extended(b"fsync@openssh.com", handle),
                 _extended(b"copy-data", handle + _number(0, 8) * 2 + handle + _number(0, 8))),
        _session(_extended(b"statvfs@openssh.com", _text(b"/")),
                 _extended(b"limits@openssh.com", b""),
                 _extended(b"hardlink@openssh.com", _text(b"there.txt") + _text(b"e"))),
        _session(*[(3, new)] * 6),
        _session((3, _text(b"../../etc/passwd") + _number(_READ) + no_attrs), (255, b"")),
    ]  # fmt: skip


def _first_packets(data: bytes, rng: Any, other: Callable[[], bytes]) -> bytes:
    """Begin as another session does, so that there is a handle to use."""
    at = rng.randrange(1, 3)
    return packed([*packets_of(other())[:at], *packets_of(data)])


TARGETS = (
    Target(
        "sftp", _seeds, _checking, (packet_splice, packet_splice, _first_packets),
        (b"../", b"/", b".json", b".status", b"there.txt", b"new.txt", b"\0", _text(b"")),
        ("segments/doors/sftp/", "segments/doors/live_audience/"), 800, 60.0,
    ),
)  # fmt: skip
