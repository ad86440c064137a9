"""
`make run`: the whole service on this machine, with some audiences to try it on.

Partner, recipient, files and logins go through an operator's commands, and the printed command line
was first sent to the service. A file fails and another is held, to show on the console.
"""

import asyncio
import hashlib
import json
import os
import secrets
import shlex
import signal
import sys
from collections.abc import Sequence
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
_GOLD = (("789", "Loyalty gold"),)
_GOLD_PEOPLE = [f"gold-{n}@example.com" for n in range(60)]
_REMOVE_SHARE = "0.5"
_LOGINS = "logins.json"
_READY_WITHIN_S = 60
_SEEN_WITHIN_S = 10


async def demo() -> int:
    """
    Run `rtb-segments up`, load the demo audience, and stay until stopped.

    Returns:
        The exit status: 0 after Ctrl-C or SIGTERM.
    """
    segments, rtb = read_settings(Settings), read_settings(RtbSettings)
    # The last file below removes more of its audience, and is held.
    os.environ.setdefault("SEGMENTS_REMOVE_BRAKE_SHARE", _REMOVE_SHARE)
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
        f"\n\nThe answer:\n\n  {answer}\n\n{_console(segments)}Metrics: http://127.0.0.1:{rtb.admin_port}/metrics"
        "   Ctrl-C stops everything.\n",
        flush=True,
    )


async def _until_ready(url: str) -> None:
    """
    Wait until the service is ready.

    Raises:
        TimeoutError: Not ready within `_READY_WITHIN_S`.
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
        RuntimeError: A command failed; its own output has the reason.
    """
    if (folder / "delivered").exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    await _run("account", "add", "--kind", "advertiser", "--id", _PARTNER, "--name", "Demo Partner")
    await _run("recipient", "add", _RECIPIENT, "--partner", _PARTNER)
    people = [_hash(email) for email in _PEOPLE]
    gold = [_hash(email) for email in _GOLD_PEOPLE]
    await _deliver(folder, "people.txt", people, _SEGMENTS)
    await _deliver(folder, "gold.txt", gold, _GOLD)
    await _deliver(folder, "not-hashed.txt", _PEOPLE, _SEGMENTS, may_fail=True)
    await _deliver(folder, "all.txt", gold, _GOLD, action="remove", may_fail=True)
    await _add_logins(folder / _LOGINS)
    (folder / "delivered").touch()


async def _deliver(
    folder: Path,
    name: str,
    lines: Sequence[str],
    segments: Sequence[tuple[str, str]],
    *,
    action: str = "add",
    may_fail: bool = False,
) -> None:
    """Deliver a file; `may_fail`: to be seen as failed, or held."""
    data, metadata = folder / name, folder / f"{name}.json"
    data.write_text("".join(f"{line}\n" for line in lines))
    metadata.write_text(json.dumps(_metadata(data, len(lines), segments, action), indent=2))
    await _run("load", str(data), "--metadata", str(metadata), may_fail=may_fail)


async def _add_logins(kept: Path) -> None:
    """Add a login for each role of the console, under a generated password."""
    password = secrets.token_urlsafe(12)
    stdin = f"{password}\n".encode()
    options = ("--show-code", "--password-stdin")
    _, *staff = await asyncio.gather(
        _run(
            "user", "add", "jane", "--admin", "--partner", _PARTNER, "--password-stdin", stdin=stdin
        ),
        _run("staff", "add", "ada", "--role", "operator", *options, stdin=stdin),
        _run("staff", "add", "grace", "--role", "privacy", *options, stdin=stdin),
    )
    ada, grace = (printed.splitlines()[-1] for printed in staff)
    told = {"password": password, "ada": ada, "grace": grace}
    kept.touch(mode=0o600)
    kept.write_text(json.dumps(told))


def _console(settings: Settings) -> str:
    """Return how to open the console; empty if `up` leaves it out."""
    kept = settings.data_dir / "demo" / _LOGINS
    if not settings.is_console_up or not kept.exists():
        return ""
    told = json.loads(kept.read_text())
    at = settings.console_options
    url = at.public_url or f"http://{at.host}:{at.port}"
    return (
        f"The console: {url}   password {told['password']}\n\n"
        f"  partner    jane\n  operator   ada     {told['ada']}\n"
        f"  privacy    grace   {told['grace']}\n\n"
    )


async def _run(*arguments: str, stdin: bytes = b"", may_fail: bool = False) -> str:
    """
    Run a command of an operator's; return what it printed.

    Raises:
        RuntimeError: It failed, and may not; its own output has the reason.
    """
    print(f"$ rtb-segments {shlex.join(arguments)}", flush=True)
    process = await asyncio.create_subprocess_exec(
        *_command(*arguments), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate(stdin)
    if process.returncode and not may_fail:
        raise RuntimeError(f"`rtb-segments {shlex.join(arguments)}` failed")
    return printed.decode()


async def _bid(url: str, body: str) -> str:
    """
    Bid until the service has read the new catalog: up to a second.

    Raises:
        TimeoutError: The service does not enrich the request.
    """
    async with asyncio.timeout(_SEEN_WITHIN_S), aiohttp.ClientSession() as session:
        while True:
            async with session.post(url, data=body) as answer:
                if answer.headers.get("X-Enrich-Outcome") == "enriched":
                    return await answer.text()
            await asyncio.sleep(0.05)


def _metadata(
    data: Path, records: int, segments: Sequence[tuple[str, str]], action: str
) -> dict[str, object]:
    content = data.read_bytes()
    return {
        "partner_id": _PARTNER,
        "file": {
            "name": data.name,
            "hash": "md5",
            "digest": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "date": "2026-01-01",
            "records": records,
        },
        "segments": [{"id": id_, "name": name, "action": action} for id_, name in segments],
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
