"""A publisher and a follower that can't go on say which part is to blame, and the cure."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from segments.follow.follower import Follower
from segments.follow.keep_following import keep_following
from segments.publish.keep_publishing import KeepPublishing, PublishMetrics
from segments.publish.publisher import Publisher
from segments.store.published.latest import Keys, public_text, read, sign
from tests.edge.small_store import eventually
from tests.engines import Engine
from tests.segments.follow.conftest import KEY, TRUSTED, Link

NOPERM = "give its user that command and the keys seg:1:* (ACL SETUSER)"


@asynccontextmanager
async def without(engine: Engine, command: str) -> AsyncIterator[None]:
    engine.ask("ACL SETUSER", "default", f"-{command}")
    try:
        yield
    finally:
        engine.ask("ACL SETUSER", "default", "+@all")


async def why_not_published(publisher: Publisher) -> str:
    """Publish until the reason is another than at the beginning."""
    keeping = KeepPublishing(publisher, PublishMetrics(CollectorRegistry()))
    before, stopping = await keeping.reasons(), asyncio.Event()

    async def is_told() -> bool:
        return await keeping.reasons() != before

    running = asyncio.create_task(keeping.run(stopping))
    await eventually(is_told)
    stopping.set()
    await running
    [why] = await keeping.reasons()
    return why


async def why_not_followed(follower: Follower, caplog: pytest.LogCaptureFixture) -> str:
    """Follow until a line is logged."""
    stopping = asyncio.Event()
    running = asyncio.create_task(keep_following(follower, 60, stopping))
    await eventually(lambda: bool(caplog.messages))
    stopping.set()
    await running
    return caplog.messages[0]


async def test_store_that_refuses_a_command_is_named_once_with_the_cure(
    link: Link, valkey: Engine, pod_server: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    await link.history.happen_all(files=1)
    async with without(valkey, "hgetall"):
        why = await why_not_published(link.publisher())
    assert why == f"the store refuses: NOPERM to HGETALL; {NOPERM}"
    await link.publisher().step()
    caplog.clear()
    async with without(pod_server, "restore"):
        said = await why_not_followed(link.follower(), caplog)

    assert said == f"not followed: the store refuses: NOPERM to RESTORE; {NOPERM}"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            "no publisher",
            "the place that is followed: LATEST: no such directory; see whether `rtb-segments"
            " publish` writes to the place that RTB_FOLLOW names",
        ),
        (
            "no LATEST",
            "the place that is followed: LATEST: no such file; see whether `rtb-segments publish`"
            " writes to the place that RTB_FOLLOW names",
        ),
        (
            "no full",
            "the place that is followed: full-N.seg: no such file; see whether `rtb-segments"
            " publish` writes to the place that RTB_FOLLOW names",
        ),
        (
            "a full cut short",
            "full-N.seg: it has X bytes instead of Y; restart `rtb-segments publish`, which"
            " writes a new full",
        ),
        (
            "a key of somebody else's",
            "LATEST has no signature of a key in RTB_FOLLOW_KEYS; set there the key that"
            " `rtb-segments key publish` printed for this publisher, unless another publisher"
            " writes to the place",
        ),
        (
            "a mount that hangs",
            "the place that is followed: LATEST: no answer in time; see whether its mount, or the"
            " network to it, still works",
        ),
        (
            "an older LATEST",
            "LATEST has number N, and N of the same ledger was seen before: put the newer files"
            " back, or, if they are lost, let the publisher write newer ones",
        ),
        (
            "a later version",
            "LATEST: it has schema 2 and this software reads schema 1: run the version that"
            " published it, or a later one",
        ),
        (
            "a full of a later version",
            "full-N.seg: it has schema 2 and this software reads schema 1: run the version that"
            " published it, or a later one",
        ),
    ],
    ids=lambda text: text if len(text) < 30 else "",
)
async def test_reason_and_remedy_are_said_once(
    link: Link, harm: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    trusted, spool_dir = TRUSTED, link.tmp_path / "spool"
    spool_dir.mkdir()
    if harm != "no publisher":
        publisher = link.publisher()
        await publisher.step()
        before = harmed(link, harm)
    if harm == "an older LATEST":
        link.clock.ahead_s += 26
        await publisher.step()
        await link.follower(spool_dir=spool_dir).look()
        (link.directory / "LATEST").write_bytes(before)
    if harm == "a key of somebody else's":
        trusted = Keys.of([public_text(Ed25519PrivateKey.generate().public_key())])
    caplog.clear()

    follower = link.follower(trusted, spool_dir)
    logged = await why_not_followed(follower, caplog)

    shown = re.sub(r"has \d+ bytes instead of \d+", "has X bytes instead of Y", logged)
    assert re.sub(r"\d{9,}", "N", shown) == f"not followed: {said}"
    assert follower.status.trouble == logged.removeprefix("not followed: ")


def harmed(link: Link, harm: str) -> bytes:
    """Harm what is published, and return the `LATEST` before."""
    path = link.directory / "LATEST"
    raw = path.read_bytes()
    latest = read(raw, TRUSTED)
    full = link.directory / latest.full.name
    match harm:
        case "no LATEST":
            path.unlink()
        case "no full":
            full.unlink()
        case "a full cut short":
            full.write_bytes(full.read_bytes()[:-1])
        case "a mount that hangs":
            path.unlink()
            os.mkfifo(path)
        case "a later version":
            path.write_bytes(sign(replace(latest, schema=2), KEY))
        case "a full of a later version":
            later = full.read_bytes().replace(b"full 1", b"full 2", 1)
            full.write_bytes(later)
            entry = replace(latest.full, sha256=sha256(later).hexdigest())
            path.write_bytes(sign(replace(latest, full=entry), KEY))
    return raw


async def test_folder_that_is_gone_is_not_taken_for_the_ledger(link: Link) -> None:
    publisher = link.publisher()
    (link.tmp_path / f"publish-{link.spools}").rmdir()

    assert (
        await why_not_published(publisher) == "the storage is not there; mount it, or put it back"
    )
