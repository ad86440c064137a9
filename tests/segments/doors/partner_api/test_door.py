"""What partners read of their own, over a real ledger and store."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.acts import recipients as acts
from segments.acts.trail import By
from segments.ledger import recipients
from segments.ledger.privacy import audit
from segments.ledger.privacy.audit import COMMAND_LINE, Entry
from segments.model.identity import id_of_email_hash
from segments.model.record import Tally
from segments.settings import Settings
from tests.engines import Engine
from tests.rest import Rest
from tests.segments.doors.rest.rest_world import RestDoors, hashes, text_of, world_served

ALICE, BOB = hashes("alice", "bob")
PERSON = id_of_email_hash(ALICE)
FILE = text_of([ALICE, BOB, BOB, "no hash", "a@b.example"])


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[RestDoors]:
    async with world_served(settings, ledger, valkey) as world:
        yield world


@pytest.fixture
async def rest(world: RestDoors) -> Rest:
    return world.rest


async def delivered(world: RestDoors, content: bytes = FILE, name: str = "a.sha2.txt") -> None:
    _, url = await world.presign(filename=name)
    assert (await world.rest.ask("PUT", url, data=content)).status == 200


async def test_delivery_is_shown_from_its_arrival_to_the_bids(world: RestDoors, rest: Rest) -> None:
    await delivered(world)
    [waiting] = (await rest.ask("GET", "/deliveries")).body["items"]

    await world.load_all()
    answer = await rest.ask("GET", f"/deliveries/{waiting['transactionId']}")

    assert waiting["state"] == "queued"
    assert waiting["segments"] == [
        {"audienceId": world.seeded.shoes.id, "segmentId": "123", "action": "add"}
    ]
    done = answer.body
    assert (done["state"], done["file"], done["hashType"]) == ("done", "a.sha2.txt", "sha2")
    assert [done[name] for name in ("lines", "badLines", "duplicates", "persons")] == [5, 2, 1, 2]
    assert {reason: each["first"] for reason, each in done["badByReason"].items()} == {
        "not_a_hash": [4],
        "email_address": [5],
    }
    stages = done["stages"]
    assert list(stages) == ["received", "started", "read", "checked", "written", "finished"]
    assert "a@b.example" not in answer.raw.decode()


async def test_failed_delivery_says_what_to_do(world: RestDoors, rest: Rest) -> None:
    await delivered(world, b"no hash at all\n")
    await world.load_all()

    [failed] = (await rest.ask("GET", "/deliveries?state=failed&state=held")).body["items"]

    assert failed["stop"]["reason"] == "no_valid_record"
    assert failed["stop"]["whatToDo"]


async def test_no_number_of_a_delivery_tells_who_has_opted_out(
    world: RestDoors, rest: Rest
) -> None:
    """
    Nor does the text of the answer name any of the five counts that the store decides.
    """
    await delivered(world)
    [job] = await world.load_all()
    assert job.report.tallies == {world.seeded.shoes.id: Tally(added=2)}

    answer = await rest.ask("GET", f"/deliveries/{job.transaction_id}")

    assert not {"added", "renewed", "removed", "unchanged", "refused", "tallies"} & set(answer.body)


async def test_deliveries_are_filtered_and_paged(world: RestDoors, rest: Rest) -> None:
    for number in range(3):
        await delivered(world, text_of([ALICE] * (number + 1)), f"file-{number}.txt")
    number = world.seeded.shoes.id

    async def names(query: str) -> list[str]:
        answer = await rest.ask("GET", f"/deliveries?{query}")
        assert answer.status == 200, answer
        return [each["file"] for each in answer.body["items"]]

    first = (await rest.ask("GET", "/deliveries?limit=2")).body
    assert [each["file"] for each in first["items"]] == ["file-2.txt", "file-1.txt"]
    assert await names(f"limit=2&cursor={first['next']}") == ["file-0.txt"]
    assert await names("q=FILE-1") == ["file-1.txt"]
    assert await names(f"q={first['items'][0]['transactionId']}") == ["file-2.txt"]
    assert len(await names(f"audience={number}")) == 3
    assert await names("since=2100-01-01") == []
    assert len(await names("until=2100-01-01T00:00:00Z")) == 3
    assert await names("state=done") == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/deliveries?stat=done", "stat", id="unknown parameter"),
        pytest.param("/deliveries?limit=0", "limit", id="limit too low"),
        pytest.param("/deliveries?limit=201", "limit", id="limit too high"),
        pytest.param("/deliveries?cursor=x", "cursor", id="no cursor"),
        pytest.param("/deliveries?state=gone", "state", id="unknown state"),
        pytest.param("/deliveries?since=yesterday", "since", id="no time"),
        pytest.param("/deliveries/abc", "transaction", id="no transaction id"),
        pytest.param("/recipients?cursor=ZGVsaXZlcmllczox", "cursor", id="another list's cursor"),
        pytest.param("/audit?scope=1", "scope", id="unknown parameter of the trail"),
    ],
)
async def test_bad_request_is_a_problem_that_names_it(rest: Rest, path: str, expected: str) -> None:
    answer = await rest.ask("GET", path)

    assert (answer.status, answer.content_type) == (400, "application/problem+json")
    assert expected in answer.body["detail"]


async def test_delivery_of_another_account_is_not_found(world: RestDoors, rest: Rest) -> None:
    await delivered(world)
    [own] = (await rest.ask("GET", "/deliveries")).body["items"]
    async with world.rest.acting_for(world.seeded.agency) as agency:
        listed = await agency.ask("GET", "/deliveries")
        shown = await agency.ask("GET", f"/deliveries/{own['transactionId']}")
        by_audience = await agency.ask("GET", f"/deliveries?audience={world.seeded.shoes.id}")

    assert listed.body["items"] == []
    assert (shown.status, by_audience.status) == (404, 404)


async def test_recipients_are_those_that_were_granted(world: RestDoors, rest: Rest) -> None:
    async with world.rest.services.ledger.begin() as conn:
        for name in ("dsp-c", "dsp-b"):
            made = await recipients.add_recipient(conn, name, now_s=0)
            await recipients.grant(conn, made, world.seeded.shop)
        await recipients.add_recipient(conn, "dsp-x", now_s=0)

    first = (await rest.ask("GET", "/recipients?limit=2")).body
    rest_of = (await rest.ask("GET", f"/recipients?limit=2&cursor={first['next']}")).body

    assert [each["name"] for each in first["items"]] == ["dsp-a", "dsp-b"]
    assert rest_of == {"items": [{"name": "dsp-c"}]}


async def test_trail_shows_acts_on_one_s_own_and_no_request_of_a_person(
    world: RestDoors, rest: Rest
) -> None:
    shop, sub = world.seeded.shop, world.seeded.sub
    async with world.rest.services.ledger.begin() as conn:
        await acts.grant(conn, By(COMMAND_LINE, 1.0), world.seeded.dsp, shop)
        entries = [
            Entry("RESTRICT", ids=[PERSON], scope_id=shop.id, transaction_id="1"),
            Entry("read", scope_id=shop.id, transaction_id="1"),
            Entry("look-up", ids=[PERSON], scope_id=shop.id, target="a person"),
            Entry("account quota", scope_id=sub.id, target="sub"),
            Entry("recipient add", target="dsp-a"),
        ]
        await audit.add(conn, COMMAND_LINE, entries, now_s=2.0)
    created = await rest.ask("POST", "/audiences", {"name": "Boots"})
    assert created.status == 201

    mine = (await rest.ask("GET", "/audit")).body["items"]
    of_user = (await rest.ask("GET", "/audit?actor=user&result=done")).body["items"]
    async with world.rest.acting_for(world.seeded.agency) as agency:
        theirs = (await agency.ask("GET", "/audit")).body["items"]

    assert [each["what"] for each in mine] == ["audience create", "recipient grant"]
    assert [each["what"] for each in of_user] == ["audience create"]
    assert [each["what"] for each in theirs] == ["account quota"]
