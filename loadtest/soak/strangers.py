"""
Strangers crowd all doors at once: unfinished requests, and guessed passwords.

Other clients must be unaffected, as drivers check for bids; the doors must answer or disconnect
each stranger in time, and answer a newcomer afterwards.
"""

import asyncio
import json
import time

from loadtest.servers import HOST
from loadtest.soak.scene import Misbehaved, Scene, until_mended

_OF_EACH_KIND = 40
_LOGINS = 20
_CROWDED_FOR_S = 2.0
_PATIENCE_S = 30.0
_COME_AGAIN_S = 0.2

_UNFINISHED_LOGIN = (
    b"POST /login HTTP/1.1\r\nHost: soak\r\nContent-Type: application/json\r\n"
    b'Content-Length: 1000000\r\n\r\n{"username": "' + b"a" * 100_000
)
_UNFINISHED_HEAD = b"GET / HTTP/1.1\r\nHost: soak\r\nX-Long: " + b"a" * 2_000


async def crowd_doors(scene: Scene) -> None:
    """Hold unfinished connections open at every door, while others guess passwords."""
    service = scene.service
    beginnings = (
        (service.api_port, _UNFINISHED_LOGIN),
        (service.api_port, _UNFINISHED_HEAD),
        (service.sftp_port, b""),
        (service.sftp_port, b"SSH-2.0-soak"),
        (service.port, _UNFINISHED_HEAD),
    )
    writers = [await _begin(port, said) for port, said in beginnings for _ in range(_OF_EACH_KIND)]
    try:
        guesses = [asyncio.create_task(_guess(service.api_port, n)) for n in range(_LOGINS)]
        await asyncio.sleep(_CROWDED_FOR_S)
        await asyncio.gather(*guesses)
    finally:
        for writer in writers:
            writer.transport.abort()
    await _guess(service.api_port, _LOGINS)
    await until_mended(scene)


async def take_all_places(scene: Scene) -> None:
    """
    Hold more silent connections to the bid listener than it has descriptors.

    Connected customers are unaffected; a newcomer gets 503, or is turned away if strangers have the
    last descriptor.
    """
    service = scene.service
    strangers = [await _begin(service.port, b"") for _ in range(service.places)]
    try:
        give_up_at_s = time.monotonic() + _PATIENCE_S
        while (status := await _knock(scene)) != 200:
            if status not in (503, 0):
                raise Misbehaved(f"a newcomer in the crowd was answered {status}, not 503")
            if time.monotonic() > give_up_at_s:
                raise Misbehaved("strangers who say nothing keep all places")
            await asyncio.sleep(_COME_AGAIN_S)
    finally:
        for stranger in strangers:
            stranger.transport.abort()
    await until_mended(scene)


async def _knock(scene: Scene) -> int:
    """Send a request on a new connection; return the status, 0 for none."""
    reader, writer = await asyncio.open_connection(HOST, scene.service.port)
    try:
        writer.write(scene.rng.choice(scene.dues).sent)
        async with asyncio.timeout(_PATIENCE_S):
            status = await reader.readline()
    except (TimeoutError, OSError):
        return 0
    finally:
        writer.close()
    return int(status.split()[1]) if status else 0


async def _begin(port: int, said: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection(HOST, port)
    writer.write(said)
    return writer


async def _guess(port: int, number: int) -> None:
    """Try a wrong password: 4xx, as soon as its turn comes."""
    body = json.dumps({"username": f"nobody{number}", "password": "wrong"})
    head = (
        "POST /login HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write((head + body).encode())
        async with asyncio.timeout(_PATIENCE_S):
            status = await reader.readline()
    except (TimeoutError, OSError) as error:
        raise Misbehaved(f"a login in the crowd was not answered: {type(error).__name__}") from None
    finally:
        writer.close()
    if not status.startswith(b"HTTP/1.1 4"):
        raise Misbehaved(f"a wrong password was answered {status[:40]!r}")
