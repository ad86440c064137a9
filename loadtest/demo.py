"""
`make run`: the whole service on this machine, with one audience to try it on.

Nothing here is a short cut. The demo's partner, recipient and file go through
the same commands that an operator types, and the line it prints at the end was
sent to the service before it was printed.
"""

import asyncio
import hashlib
import json
import shlex
import signal
import sys
from pathlib import Path

import aiohttp

from rtb.settings import RtbSettings
from segments.runtime import child_process
from segments.runtime.settings_reader import read_settings
from segments.settings import Settings

_PARTNER = "demo"
_RECIPIENT = "dsp-a"
_PEOPLE = [f"{name}@example.com" for name in ("alice", "bob", "carol", "dave")]
_SEGMENTS = (("123", "Recent purchasers"), ("456", "Newsletter readers"))
_READY_WITHIN_S = 60
_SEEN_WITHIN_S = 10


async def demo() -> int:
    """
    Run `rtb-segments up`, load the demo audience, and stay until stopped.

    Returns:
        The exit status for the shell: 0 after Ctrl-C or SIGTERM.
    """
    segments, rtb = read_settings(Settings), read_settings(RtbSettings)
    service = await child_process.start(_command("up"))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, service.terminate)

    showing = asyncio.create_task(_show(segments, rtb))
    ended = asyncio.create_task(service.wait())
    await asyncio.wait([showing, ended], return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        showing.cancel()
    elif showing.exception() is not None:
        print(f"demo: {showing.exception()}", file=sys.stderr)
        await child_process.stop(service, within_s=30)
        return 1
    return await ended


async def _show(segments: Settings, rtb: RtbSettings) -> None:
    await _until_ready(f"http://127.0.0.1:{rtb.admin_port}/health/ready?strict")
    await _load(segments.data_dir / "demo")
    url = f"http://127.0.0.1:{rtb.port}/openrtb2/enrich/{_RECIPIENT}"
    body = json.dumps(_bid_request())
    answer = await _bid(url, body)
    line = f"curl -s -H 'Content-Type: application/json' {url} -d {shlex.quote(body)}"
    print(
        f"\nReady. Someone in the demo audience comes by; try it in another terminal:\n\n  {line}"
        f"\n\nThe answer:\n\n  {answer}\n\nMetrics: http://127.0.0.1:{rtb.admin_port}/metrics"
        "   Ctrl-C stops everything.\n",
        flush=True,
    )


async def _until_ready(url: str) -> None:
    """
    Wait until the service says that it is ready.

    Raises:
        TimeoutError: It did not within `_READY_WITHIN_S`.
    """
    async with asyncio.timeout(_READY_WITHIN_S), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


async def _load(folder: Path) -> None:
    """
    Deliver the demo's file as a partner would, unless an earlier run has.

    Raises:
        RuntimeError: A command failed; it has said why.
    """
    if (folder / "delivered").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "people.txt"
    data.write_text("".join(f"{_hash(email)}\n" for email in _PEOPLE))
    metadata = folder / "people.txt.json"
    metadata.write_text(json.dumps(_metadata(data), indent=2))

    await _run("account", "add", "--kind", "advertiser", "--id", _PARTNER, "--name", "Demo Partner")
    await _run("recipient", "add", _RECIPIENT, "--partner", _PARTNER)
    await _run("load", str(data), "--metadata", str(metadata))
    (folder / "delivered").touch()


async def _run(*arguments: str) -> None:
    print(f"$ rtb-segments {shlex.join(arguments)}", flush=True)
    process = await child_process.start(_command(*arguments))
    if await process.wait():
        raise RuntimeError(f"`rtb-segments {shlex.join(arguments)}` failed")


async def _bid(url: str, body: str) -> str:
    """
    Bid until the service has seen what was just set up, which takes it up to a second.

    Raises:
        TimeoutError: It does not enrich the request.
    """
    async with asyncio.timeout(_SEEN_WITHIN_S), aiohttp.ClientSession() as session:
        while True:
            async with session.post(url, data=body) as answer:
                if answer.headers.get("X-Enrich-Outcome") == "enriched":
                    return await answer.text()
            await asyncio.sleep(0.05)


def _metadata(data: Path) -> dict[str, object]:
    content = data.read_bytes()
    return {
        "partner_id": _PARTNER,
        "file": {
            "name": data.name,
            "hash": "md5",
            "digest": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "date": "2026-01-01",
            "records": len(_PEOPLE),
        },
        "segments": [{"id": id_, "name": name, "action": "add"} for id_, name in _SEGMENTS],
    }


def _bid_request() -> dict[str, object]:
    eid = {"source": "liveintent.com", "uids": [{"id": _hash(_PEOPLE[0]), "atype": 3}]}
    return {
        "id": "demo-1",
        "imp": [{"id": "1", "banner": {"format": [{"w": 300, "h": 250}]}}],
        "site": {"domain": "example.com"},
        "user": {"eids": [eid]},
        "tmax": 200,
    }


def _hash(email: str) -> str:
    return hashlib.sha256(email.lower().encode()).hexdigest()


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "segments", *arguments]
