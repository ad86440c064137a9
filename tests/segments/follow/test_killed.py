"""A follower killed at any of its steps goes on correctly, and shows no opted-out person."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from segments.files.published_place import PublishedPlace
from segments.model.record import unpack
from segments.publish.options import PublishOptions
from segments.store.published.latest import public_text
from segments.store.reader import StoreUnusable, read_meta
from tests.engines import Engine
from tests.segments.follow.conftest import KEY, Dump, Link
from tests.segments.follow.killed import Plan, Victims


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    victims = Victims()
    yield victims
    victims.end()


@pytest.mark.parametrize("each", [6, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("begins", [True, False], ids=["first full", "increments"])
async def test_follower_killed_at_any_step_goes_on_rightly(
    link: Link, pod_server: Engine, victims: Victims, begins: bool, each: int
) -> None:
    publisher = link.publisher(options=PublishOptions(0, 0, buckets_at_once=150))
    await link.history.happen_all(files=1)
    await publisher.step()
    before = link.tmp_path / "before"
    shutil.copytree(link.directory, before)
    said_no = opted_out(await link.history.dump())
    for _ in range(2):
        await link.history.say_no()
    await link.history.happen_all(files=1)
    await publisher.step()
    while publisher._owed:
        await publisher.step()
    due = await link.history.dump()

    was_open = False
    for step in count(1, each):
        await link.pod.flushall()
        spool_dir = link.tmp_path / f"spool-{step}"
        spool_dir.mkdir()
        plan = Plan(
            pod_server.url,
            str(spool_dir),
            public_text(KEY.public_key()),
            None if begins else f"file://{before}",
            link.url,
            step,
        )
        if not await asyncio.to_thread(victims.is_killed, plan):
            break
        followed = await link.followed()
        if await is_open(link):
            was_open = True
            if begins:
                assert followed == due
            assert said_no <= opted_out(followed)

        restarted = link.follower(spool_dir=spool_dir)
        await restarted.look()

        assert await link.followed() == due, step
        assert not list(spool_dir.glob("*.seg"))
        assert restarted.may_be_believed
    assert step > 20
    assert was_open or begins


async def is_open(link: Link) -> bool:
    try:
        await read_meta(link.pod)
    except StoreUnusable:
        return False
    return True


def opted_out(dump: Dump) -> set[tuple[bytes, bytes]]:
    """Return the places of all who said no."""
    return {
        (bucket, field)
        for bucket, fields in dump.items()
        for field, raw in fields.items()
        if unpack(raw).opt_outs
    }


@pytest.mark.parametrize("name", ["full", "increment"])
async def test_file_that_hangs_in_the_middle_is_read_once_the_mount_is_back(
    link: Link, name: str
) -> None:
    """A mount that answers for LATEST, and not for a file."""
    publisher, follower = link.publisher(), link.follower()
    await link.history.happen_all(files=1)
    await publisher.step()
    if name == "increment":
        await follower.look()
        await link.history.happen_all(files=1)
        await publisher.step()
    [path] = sorted(link.directory.glob(f"{name}-*.seg"))
    whole = link.tmp_path / "whole"
    shutil.move(path, whole)
    hang(path)
    with pytest.raises(Exception, match=rf"^{name}-\d+.seg: no answer in time$"):
        await follower.look()
    assert follower.may_be_believed is (name == "increment")

    path.unlink()
    shutil.move(whole, path)
    await follower.look()

    assert await link.followed() == await link.history.dump()


async def test_mount_that_hangs_holds_few_threads(link: Link) -> None:
    await link.publisher().step()
    latest = link.directory / "LATEST"
    raw = latest.read_bytes()
    latest.unlink()
    hang(latest)
    follower = link.follower()
    follower._place = PublishedPlace(link.url, within_s=0.05)
    said = set()
    for _ in range(8):
        with pytest.raises(Exception, match=r"^LATEST: (no answer in time|earlier)") as why:
            await follower.look()
        said.add(str(why.value))
    assert len(follower._place._unanswered) == 4
    assert "LATEST: earlier questions are unanswered" in said

    # It is back.
    let_go(latest)
    latest.unlink()
    latest.write_bytes(raw)
    async with asyncio.timeout(30):
        while follower._place._unanswered:  # noqa: ASYNC110 - threads of obstore's
            await asyncio.sleep(0.01)
    await follower.look()

    assert follower.may_be_believed


def hang(path: Path) -> None:
    """Make a file whose opening waits for ever."""
    os.mkfifo(path)


def let_go(fifo: Path) -> None:
    """Let all go on who wait for such a file."""
    os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
