"""An ERASURE that was taken over from a store takes persons out of files like any other."""

from collections.abc import Callable, Sequence

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ingest.tools import Tools
from segments.ledger.database.engine import open_ledger
from segments.model.record import OptOutAction
from segments.settings import Settings
from segments.upkeep.reconcile import reconcile
from tests.engines import Engine
from tests.segments.backups import Backups
from tests.segments.ingest.deliveries import email_hashes, gz_of, text_of
from tests.segments.upkeep.scrub.scrub_world import begun, lines_of

PEOPLE = email_hashes(30)
SHOPS, EVERYBODYS, HIDDEN = PEOPLE[:5], PEOPLE[5:8], PEOPLE[8:10]


@pytest.mark.parametrize(
    "form", [text_of, lambda hashes: gz_of(text_of(hashes))], ids=["txt", "gz"]
)
async def test_erasure_that_only_the_store_knew_leaves_delivered_files(
    ledger: AsyncEngine,
    settings: Settings,
    valkey: Engine,
    backups: Backups,
    form: Callable[[Sequence[str]], bytes],
) -> None:
    async with begun(settings, ledger, valkey) as world:
        ours = await world.loaded(form(PEOPLE))
        theirs = await world.loaded(form(PEOPLE), partner_id="other")
        copy = await backups.take(ledger, settings)
        await world.say_no(SHOPS, world.shop)
        await world.say_no(EVERYBODYS)
        await world.say_no(HIDDEN, action=OptOutAction.RESTRICT)
        lost = await world.dump()
        async with open_ledger(copy.ledger_dsn) as restored:
            world.ledger = restored
            world.tools = Tools(**{**vars(world.tools), "ledger": restored})
            await reconcile(world.tools, settle_s=0)

            done = await world.scrub()

            assert (done.rewritten, done.lines) == (2, len(SHOPS) + 2 * len(EVERYBODYS))
            assert set(await lines_of(world, ours)) == set(PEOPLE[8:])
            assert set(await lines_of(world, theirs)) == {*SHOPS, *PEOPLE[8:]}
            assert await world.rebuilt() == lost
