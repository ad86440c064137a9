"""The days on which bids show an audience: to all that are granted, or to each by an activation."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.rest.services import Services
from segments.ledger import activations, audiences
from segments.ledger.privacy.audit import entries
from segments.model.audience import Audience
from tests.console import Served
from tests.ledger_seed import Seeded


def at_s(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


@pytest.fixture(autouse=True)
def quick_withdrawals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A withdrawal waits until no bid can show it, which is tested elsewhere."""
    monkeypatch.setattr(Services, "withdraw_from_bids", Services.publish_catalog)


@pytest.fixture
async def closed(ledger: AsyncEngine, seeded: Seeded) -> Audience:
    """An audience as the CRM door makes it."""
    async with ledger.begin() as conn:
        await activations.close(conn, seeded.shoes, now_s=1)
        return await audiences.audience(conn, seeded.shoes.id)


async def test_an_audience_is_shown_on_some_days(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    at = f"/audiences/{seeded.shoes.id}"
    async with console.user_of(seeded.shop) as shop:
        done = await shop.send(f"{at}/window", **{"from": "2030-01-02", "until": "2030-01-02"})
        assert done.location == f"{at}?done=saved"
        page = await shop.see(at)
        assert "From 2030-01-02" in page.said
        assert 'name="until" value="2030-01-02"' in page.text
        for wrong in (
            {"from": "2030-01-03", "until": "2030-01-02"},
            {"from": "tomorrow"},
            {"from": "2030-13-01"},
        ):
            assert (await shop.send(f"{at}/window", **wrong)).status == 409, wrong
        refused = await shop.send(
            f"{at}/activation",
            **{"recipient": "dsp-a", "from": "2030-01-02", "until": "2030-01-02"},
        )
        assert refused.status == 409
        async with ledger.connect() as conn:
            kept = await audiences.audience(conn, seeded.shoes.id)
        assert (kept.live_from_s, kept.live_until_s) == (at_s("2030-01-02"), at_s("2030-01-03"))
        await shop.send(f"{at}/window", **{"from": "", "until": ""})
        assert "Shown to 1" in (await shop.see(at)).said


async def test_an_audience_of_the_crm_door_is_shown_by_activations_alone(
    console: Served, seeded: Seeded, closed: Audience, ledger: AsyncEngine
) -> None:
    at = f"/audiences/{closed.id}"
    days = {"recipient": "dsp-a", "from": "2020-01-01", "until": "2040-01-01"}
    async with console.user_of(seeded.shop) as shop:
        for path in (at, "/audiences"):
            assert "Shown to none" in (await shop.see(path)).said
        assert (await shop.send(f"{at}/window", **{"from": ""})).status == 409
        assert (await shop.send(f"{at}/activation/end", recipient="dsp-a")).status == 409
        for wrong in ({"recipient": "dsp-z"}, {"until": ""}, {"until": "2019-01-01"}):
            assert (await shop.send(f"{at}/activation", **days | wrong)).status == 409, wrong

        assert (await shop.send(f"{at}/activation", **days)).location == f"{at}?done=saved"
        for path in (at, "/audiences"):
            assert "Shown to 1" in (await shop.see(path)).said
        assert "2020-01-01 to 2040-01-01" in (await shop.see(at)).said

        moved = days | {"from": "2039-01-01"}
        await shop.send(f"{at}/activation", **moved)
        assert "From 2039-01-01" in (await shop.see(at)).said

        await shop.send(f"{at}/activation", **days)
        await shop.send(f"{at}/activation/end", recipient="dsp-a")
        page = (await shop.see(at)).said
        assert ("Shown to none" in page, "ended" in page) == (True, True)
    async with ledger.connect() as conn:
        (kept,) = await activations.activations_of(conn, [closed.id])
        rows = [row async for row in entries(conn) if row["what"] == "audience activation"]
    assert kept.live_until_s <= console.clock()
    assert kept.name == closed.name
    assert [row["detail"]["recipient"] for row in rows] == ["dsp-a"] * 4
    assert {row["actor_name"] for row in rows} == {f"user-{seeded.shop.id}"}
    assert rows[-1]["detail"]["segment"] == kept.segment_id
