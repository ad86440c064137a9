"""
Files that earlier releases have published, kept here for ever: each is followed as it is.

A folder of `kept` has a publication of one schema, its public key, and the store that it leads to.
It is never made anew: a later schema gets a folder of its own, and pods of this release still
follow the older publisher while a deployment changes from one to the other.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from segments.runtime.follow_status import FollowEvent
from segments.store.published.latest import Keys, Latest, read, sign
from segments.store.reader import read_catalog, read_meta
from tests.segments.follow.conftest import KEY, TRUSTED, Dump, Link

KEPT = sorted((Path(__file__).parent / "kept").iterdir())


@pytest.fixture(params=KEPT, ids=[each.name for each in KEPT])
def kept(link: Link, request: pytest.FixtureRequest) -> Path:
    """A publication of an earlier release, where the link's follower looks, as on its day."""
    folder: Path = request.param
    shutil.copytree(folder, link.directory)
    link.clock.ahead_s = latest_of(folder).made_at_s - time.time()
    return folder


def latest_of(folder: Path) -> Latest:
    return read((folder / "LATEST").read_bytes(), Keys.of([key_of(folder)]))


def key_of(folder: Path) -> str:
    return (folder / "key.pub").read_text().strip()


async def test_what_an_earlier_release_has_published_is_followed(link: Link, kept: Path) -> None:
    follower = link.follower(Keys.of([key_of(kept)]))

    await follower.look()

    due = json.loads((kept / "store.json").read_bytes())
    assert await store_of(link) == due
    assert follower.may_be_believed


async def test_increments_of_an_earlier_release_are_applied(link: Link, kept: Path) -> None:
    latest = latest_of(kept)
    begun = replace(latest, increments=latest.increments[:1], number=latest.increments[0].number)
    follower = link.follower(TRUSTED)
    for each in (begun, latest):
        (link.directory / "LATEST").write_bytes(sign(each, KEY))
        await follower.look()

    assert follower.counts[FollowEvent.FULL] == 1
    assert follower.counts[FollowEvent.INCREMENT] == len(latest.increments) - 1 > 0
    assert await store_of(link) == json.loads((kept / "store.json").read_bytes())


async def store_of(link: Link) -> dict[str, Any]:
    catalog = await read_catalog(link.pod)
    records: Dump = await link.followed()
    return {
        "opt_outs": (await read_meta(link.pod)).opt_outs,
        "audiences": [entry.id for entry in catalog.audiences],
        "accounts": [entry.public_id for entry in catalog.accounts],
        "records": {
            bucket.decode(): {field.hex(): raw.hex() for field, raw in fields.items()}
            for bucket, fields in records.items()
        },
    }
