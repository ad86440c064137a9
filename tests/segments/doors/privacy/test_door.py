"""The Privacy API's requests over a real ledger and store, by their document."""

from collections.abc import AsyncIterator
from hashlib import md5, sha1, sha256
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.privacy.agent import STRANGERS
from segments.ledger import accounts
from segments.ledger.database.engine import open_ledger
from segments.ledger.privacy import tokens as privacy_tokens
from segments.model.identity import id_of_duid
from segments.model.record import EVERYONE, Membership, OptOut, OptOutAction, Record
from segments.projection.applied_opt_outs import apply_opt_outs
from segments.settings import Settings
from segments.store.reader import read_meta
from tests.engines import Engine
from tests.refusals import REFUSALS
from tests.segments.doors.privacy.privacy_world import (
    ADA,
    BOB,
    EVE,
    REQUESTS,
    PrivacyDoors,
    privacy_world,
)
from tests.segments.doors.rest.rest_world import hashes

RESTRICTED = OptOut(EVERYONE, OptOutAction.RESTRICT)
ERASED = OptOut(EVERYONE, OptOutAction.ERASURE)
DUID = "a71defad6e35--01gm6nvbatvjfjkvs9yd9wc7tt"


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[PrivacyDoors]:
    async with privacy_world(settings, ledger, valkey) as world:
        yield world


@pytest.fixture
async def world_in_a_file(settings: Settings, valkey: Engine) -> AsyncIterator[PrivacyDoors]:
    """On SQLite alone: for what is decided before the ledger is asked for anything."""
    async with (
        open_ledger(settings.ledger_dsn) as ledger,
        privacy_world(settings, ledger, valkey) as world,
    ):
        yield world


@pytest.fixture
async def hurried_world(settings: Settings, valkey: Engine) -> AsyncIterator[PrivacyDoors]:
    """One that waits for no loader, since there is none."""
    hurried = settings.model_copy(update={"opt_out_wait_s": 0.2})
    async with (
        open_ledger(hurried.ledger_dsn) as ledger,
        privacy_world(hurried, ledger, valkey) as world,
    ):
        yield world


def error_code_of(answer: Any) -> tuple[int, str]:
    return answer.status, answer.body["errorCode"]


def error_of(answer: Any) -> tuple[int, str]:
    """Return an error's status and code, once it is of the document's form."""
    assert answer.content_type == "application/json"
    assert set(answer.body) == {"httpStatus", "message", "errorCode"}
    assert answer.body["httpStatus"] == answer.status
    assert answer.body["message"]
    return answer.status, answer.body["errorCode"]


# ---------------------------------------------------------------- submit


async def test_restricted_person_is_restricted_when_it_is_answered(world: PrivacyDoors) -> None:
    client = await world.bearer()
    await world.add_members(ADA)

    answer = await world.submit(client, "RESTRICT", ADA)

    assert answer.status == 202
    assert len(answer.body["transactionId"]) == 32
    record = await world.record(ADA)
    assert record.opt_outs == (RESTRICTED,)
    assert len(record.memberships) == 2, "kept, unseen"
    async with world.rest.services.ledger.connect() as conn:
        (token,) = await privacy_tokens.tokens(conn)
    assert token.used_at_s == int(world.rest.clock())


async def test_erased_person_has_nothing_left_but_the_tombstone(world: PrivacyDoors) -> None:
    await world.add_members(ADA)

    await world.taken(await world.bearer(), "ERASURE", ADA)

    assert await world.record(ADA) == Record((ERASED,))


async def test_all_ids_of_one_request_are_one_data_subject(world: PrivacyDoors) -> None:
    other = md5(b"ada@example.org").hexdigest().upper()

    await world.taken(await world.bearer(), "RESTRICT", ADA, other, liveIntentFpcs=[DUID])

    assert await world.record(ADA) == Record((RESTRICTED,))
    assert await world.record(other) == Record((RESTRICTED,))
    assert await world.record_of_id(id_of_duid(DUID)) == Record((RESTRICTED,))
    assert await world.count("data_subject_requests") == 1


async def test_cookie_alone_is_enough(world: PrivacyDoors) -> None:
    client = await world.bearer()

    answer = await client.ask("POST", REQUESTS, {"action": "RESTRICT", "liveIntentFpcs": [DUID]})

    assert answer.status == 202
    assert await world.record_of_id(id_of_duid(DUID)) == Record((RESTRICTED,))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({}, id="both empty"),
        pytest.param({"emailHashes": []}, id="both empty, and said"),
        pytest.param({"emailHashes": [ADA[:-1]]}, id="no length of a hash"),
        pytest.param({"emailHashes": ["ada@example.com"]}, id="an address"),
        pytest.param({"emailHashes": [ADA, "g" * 64]}, id="not hex, behind one that is"),
        pytest.param({"emailHashes": [ADA + "\n"]}, id="a line end"),
        pytest.param({"emailHashes": ADA}, id="not an array"),
        pytest.param({"emailHashes": [ADA, sha256(b"").hexdigest()]}, id="the hash of nothing"),
        pytest.param({"emailHashes": ["0" * 32]}, id="a placeholder"),
        pytest.param({"emailHashes": [ADA, ADA]}, id="twice"),
        pytest.param({"emailHashes": [ADA, ADA.upper()]}, id="twice in another case"),
        pytest.param({"liveIntentFpcs": [DUID, DUID]}, id="a cookie twice"),
        pytest.param({"liveIntentFpcs": [""]}, id="an empty cookie"),
        pytest.param({"liveIntentFpcs": ["d" * 257]}, id="too long a cookie"),
        pytest.param({"emailHashes": hashes(*map(str, range(1001)))}, id="over 1,000"),
        pytest.param(
            {
                "emailHashes": hashes(*map(str, range(600))),
                "liveIntentFpcs": [f"d{n}" for n in range(401)],
            },
            id="over 1,000 together",
        ),
        pytest.param({"emailHashes": [ADA], "action": "FORGET"}, id="an unknown action"),
        pytest.param({"emailHashes": [ADA], "action": None}, id="no action"),
        pytest.param({"emailHashes": [ADA], "jurisdiction": "MARS"}, id="an unknown jurisdiction"),
        pytest.param({"emailHashes": [ADA], "scope": {}}, id="a scope that says nothing"),
        pytest.param(
            {"emailHashes": [ADA], "scope": {"entity_type": "planet", "id": 1}},
            id="an unknown scope",
        ),
        pytest.param(
            {"emailHashes": [ADA], "scope": {"entity_type": "publisher"}}, id="a scope of whom?"
        ),
        pytest.param({"emailHashes": [ADA], "submitter": "s" * 257}, id="too long a submitter"),
        pytest.param({"emailHashes": [ADA], "submitter": "a\0b"}, id="no text that can be kept"),
    ],
)
async def test_wrong_request_is_told_so_and_nothing_is_half_done(
    world_in_a_file: PrivacyDoors, wrong: dict[str, Any]
) -> None:
    world = world_in_a_file
    client = await world.bearer()

    answers = [
        await client.ask("POST", path, {"action": "ERASURE", **wrong})
        for path in (REQUESTS, f"{REQUESTS}/test")
    ]

    assert [error_of(answer) for answer in answers] == [(400, "BAD_REQUEST")] * 2
    assert ADA not in answers[0].raw.decode()
    assert await world.count("data_subject_requests") == 0
    assert await world.record(ADA) == Record()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        pytest.param("liveIntentFpc", "liveIntentFpcs", id="cookies, misspelt"),
        pytest.param("LIVEINTENTFPCS", "liveIntentFpcs", id="in capitals"),
        pytest.param("email_hashes", "emailHashes", id="hashes, otherwise"),
        pytest.param("juristiction", "jurisdiction", id="jurisdiction"),
        pytest.param("phoneHashes", "emailHashes", id="what there is not"),
    ],
)
@pytest.mark.parametrize("path", [REQUESTS, f"{REQUESTS}/test"])
async def test_member_that_is_not_known_is_refused_by_name(
    world_in_a_file: PrivacyDoors, path: str, name: str, nearest: str
) -> None:
    """
    Passed over, the ids of a person who said no would be lost with it.
    """
    client = await world_in_a_file.bearer()

    answer = await client.ask(
        "POST", path, {"action": "RESTRICT", "emailHashes": [ADA], name: [DUID]}
    )

    assert error_of(answer) == (400, "BAD_REQUEST")
    assert f"the member {name} is not known" in answer.body["message"]
    assert answer.body["message"].endswith(f"nearest that is known is {nearest}")
    assert DUID not in answer.raw.decode()
    assert await world_in_a_file.record(ADA) == Record()


@pytest.mark.parametrize("name", [ADA, "ada@example.com", "", "<b>", "x" * 32])
async def test_name_that_may_be_a_value_is_not_said_again(
    world_in_a_file: PrivacyDoors, name: str
) -> None:
    client = await world_in_a_file.bearer()

    answer = await world_in_a_file.submit(client, "RESTRICT", BOB, **{name: 1})

    assert error_of(answer) == (400, "BAD_REQUEST")
    assert f"name has {len(name)} characters" in answer.body["message"]
    assert not name or name not in answer.raw.decode()


async def test_unknown_member_of_a_scope_is_refused_by_name(world_in_a_file: PrivacyDoors) -> None:
    client = await world_in_a_file.bearer()
    scope = {"entity_type": "advertiser", "id": 1, "entityId": 2}

    answer = await world_in_a_file.submit(client, "RESTRICT", ADA, scope=scope)

    assert error_of(answer) == (400, "BAD_REQUEST")
    assert "the member entityId is not known" in answer.body["message"]


async def test_members_of_answers_are_passed_over(world: PrivacyDoors) -> None:
    """
    Clients send back what they were told.
    """
    client = await world.bearer()
    answered = {"status": "pending", "userId": 1, "transactionId": "x", "createdAt": "x",
                "downloadUrl": "x"}  # fmt: skip

    await world.taken(client, "RESTRICT", ADA, **answered)

    assert await world.record(ADA) == Record((RESTRICTED,))


async def test_set_that_is_named_in_two_spellings_is_both(world: PrivacyDoors) -> None:
    """
    As the document's own prose spells them, and its table.
    """
    other = DUID.replace("a", "b")
    body = {
        "action": "RESTRICT",
        "emailHashes": [ADA],
        "emailhashes": [BOB, ADA],
        "liveIntentFpcs": [DUID],
        "liveItentFpcs": [other],
    }

    answer = await (await world.bearer()).ask("POST", REQUESTS, body)

    assert answer.status == 202, answer
    assert [await world.record(each) for each in (ADA, BOB)] == [Record((RESTRICTED,))] * 2
    for duid in (DUID, other):
        assert await world.record_of_id(id_of_duid(duid)) == Record((RESTRICTED,))


async def test_other_spelling_alone_is_enough(world: PrivacyDoors) -> None:
    internal = await world.bearer(is_internal=True)

    for path in (f"{REQUESTS}/test", REQUESTS):
        body = {"action": "RESTRICT", "liveItentFpcs": [DUID]}
        assert (await internal.ask("POST", path, body)).status == 202
    found = await internal.ask("POST", "/search/data-subject-requests", {"emailhashes": [ADA]})

    assert await world.record_of_id(id_of_duid(DUID)) == Record((RESTRICTED,))
    assert found.status == 200


async def test_member_that_stands_there_twice_is_refused(world_in_a_file: PrivacyDoors) -> None:
    """
    Readers of JSON differ in which of the two they take; the other's ids would be lost.
    """
    client = await world_in_a_file.bearer()
    body = f'{{"action": "RESTRICT", "emailHashes": ["{ADA}"], "emailHashes": ["{BOB}"]}}'

    answer = await client.ask(
        "POST", REQUESTS, data=body, headers={"Content-Type": "application/json"}
    )

    assert error_of(answer) == (400, "BAD_REQUEST")
    assert answer.body["message"] == "body: emailHashes stands there twice"


async def test_unknown_word_of_a_scope_is_not_quoted(world: PrivacyDoors) -> None:
    answer = await world.submit(
        await world.bearer(), "RESTRICT", ADA, scope={"entity_type": BOB, "id": 1}
    )

    assert answer.status == 400
    assert BOB not in answer.raw.decode()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"action": "RESTRICT"'])
async def test_what_is_no_json_object_is_the_documents_error_too(
    world_in_a_file: PrivacyDoors, body: bytes
) -> None:
    answer = await (await world_in_a_file.bearer()).ask("POST", REQUESTS, data=body)

    assert error_of(answer) in ((400, "BAD_REQUEST"), (415, "UNSUPPORTED_MEDIA_TYPE"))


async def test_a_thousand_ids_are_taken(world: PrivacyDoors) -> None:
    ids = hashes(*map(str, range(1000)))

    await world.taken(await world.bearer(), "RESTRICT", *ids)

    assert await world.record(ids[999]) == Record((RESTRICTED,))


@pytest.mark.parametrize("code", REFUSALS)
async def test_request_that_can_not_be_put_into_force_is_told_so_and_may_be_repeated(
    hurried_world: PrivacyDoors, valkey: Engine, code: str
) -> None:
    """
    https://api.liveintent.com's document knows 202 alone; a no that holds later is none.
    """
    world = hurried_world
    client = await world.bearer()
    await world.add_members(ADA)

    with REFUSALS[code](valkey):
        first = await world.submit(client, "ERASURE", ADA)
        again = await world.submit(client, "ERASURE", ADA)
        members = (await world.record(ADA)).memberships
    once_more = await world.submit(client, "ERASURE", ADA)

    assert (first.status, first.content_type) == (503, "application/json")
    assert first.headers["Retry-After"] == "5"
    assert set(first.body) == {"httpStatus", "message", "errorCode", "transactionId"}
    assert (first.body["httpStatus"], first.body["errorCode"]) == (503, "NOT_IN_FORCE_YET")
    assert again.body == first.body
    assert members, "the store went on reading"
    assert (once_more.status, once_more.body) == (
        202,
        {"transactionId": first.body["transactionId"]},
    )
    assert await world.record(ADA) == Record((ERASED,))
    assert await world.count("data_subject_requests") == 1


async def test_store_that_is_down_is_no_acknowledgement_and_the_request_is_kept(
    hurried_world: PrivacyDoors, valkey: Engine
) -> None:
    world = hurried_world
    client = await world.bearer()
    await world.add_members(ADA)

    valkey.kill()
    answer = await world.submit(client, "ERASURE", ADA)
    valkey.start()

    assert error_code_of(answer) == (503, "NOT_IN_FORCE_YET")
    assert await world.count("data_subject_requests") == 1
    await apply_opt_outs(world.rest.services.ledger, world.redis, await read_meta(world.redis))
    assert ERASED in (await world.record(ADA)).opt_outs


async def test_what_waits_is_told_by_readiness_and_metrics(
    hurried_world: PrivacyDoors, valkey: Engine
) -> None:
    rest = hurried_world.rest
    client = await hurried_world.bearer()
    calm = await rest.ask("GET", "/health/ready?strict")
    with REFUSALS["OOM"](valkey):
        await hurried_world.submit(client, "RESTRICT", ADA)
    rest.clock.ahead_s += 30

    waiting = [await rest.ask("GET", f"/health/ready{query}") for query in ("", "?strict")]
    sample = rest.services.metrics.registry.get_sample_value
    metrics = [sample(f"segments_opt_outs_{name}") for name in ("waiting", "oldest_seconds")]
    await hurried_world.submit(client, "RESTRICT", ADA)
    over = await rest.ask("GET", "/health/ready?strict")

    nothing = {"ready": True, "reason": "", "opt_outs_waiting": 0, "oldest_s": 0}
    for answer in (calm, over):
        assert answer.status == 200
        assert answer.body == answer.body | nothing
    assert [answer.status for answer in waiting] == [200, 503]
    assert [answer.body["opt_outs_waiting"] for answer in waiting] == [1, 1]
    assert all(29 <= answer.body["oldest_s"] <= 40 for answer in waiting)
    assert metrics[0] == 1
    assert metrics[1] is not None
    assert metrics[1] >= 29


# ---------------------------------------------------------------- test requests


async def test_test_request_is_checked_and_keeps_nothing(world: PrivacyDoors) -> None:
    client = await world.bearer()
    before = {table: await world.count(table) for table in ("audit", "data_subject_requests")}

    answers = [
        await client.ask("POST", f"{REQUESTS}/test", {"action": "ERASURE", "emailHashes": [ADA]})
        for _ in range(2)
    ]

    assert [answer.status for answer in answers] == [202, 202]
    assert answers[0].body != answers[1].body
    assert {table: await world.count(table) for table in before} == before
    assert await world.record(ADA) == Record()


async def test_test_request_needs_the_same_authority(world: PrivacyDoors) -> None:
    client = await world.bearer(world.seeded.shop)
    body = {"action": "RESTRICT", "emailHashes": [ADA], "scope": {"entity_type": "global"}}

    scope = await client.ask("POST", f"{REQUESTS}/test", body)
    access = await client.ask(
        "POST", f"{REQUESTS}/test", {"action": "ACCESS", "emailHashes": [ADA]}
    )

    assert error_of(scope) == (403, "OUT_OF_SCOPE")
    assert error_of(access) == (403, "INTERNAL_ONLY")


# ---------------------------------------------------------------- who may


async def test_without_a_bearer_token_it_is_401(world: PrivacyDoors) -> None:
    missing = await world.submit(world.rest, "RESTRICT", ADA)
    basic = await world.rest.ask("POST", REQUESTS, {}, headers={"Authorization": "Basic YTpi"})

    assert error_of(missing) == error_of(basic) == (401, "UNAUTHORIZED")
    assert missing.headers["WWW-Authenticate"] == "Bearer"
    assert await world.record(ADA) == Record()


async def test_token_that_is_worth_nothing_is_403(world: PrivacyDoors) -> None:
    good = await world.bearer()
    revoked = await world.bearer()
    async with world.rest.services.ledger.begin() as conn:
        await privacy_tokens.revoke(conn, 2, now_s=world.rest.clock())
    made_up = good.headers["Authorization"][:-1] + "!"

    unknown = await world.rest.ask("POST", REQUESTS, {}, headers={"Authorization": made_up})
    ended = await world.submit(revoked, "RESTRICT", ADA)
    world.rest.clock.ahead_s = 86_400
    expired = await world.submit(good, "RESTRICT", ADA)

    assert [error_of(each) for each in (unknown, ended, expired)] == [(403, "FORBIDDEN")] * 3
    assert await world.record(ADA) == Record()


async def test_token_of_an_account_that_was_switched_off_is_403(world: PrivacyDoors) -> None:
    client = await world.bearer(world.seeded.shop)
    async with world.rest.services.ledger.begin() as conn:
        await accounts.set_account_active(conn, world.seeded.shop, is_active=False)

    assert error_of(await world.submit(client, "RESTRICT", ADA)) == (403, "FORBIDDEN")


async def test_login_of_a_partner_is_no_token_of_the_privacy_api(world: PrivacyDoors) -> None:
    async with world.rest.acting_for(world.seeded.shop) as partner:
        answer = await world.submit(partner, "RESTRICT", ADA)

    assert error_of(answer) == (403, "FORBIDDEN")


async def test_who_was_let_in_by_nobody_is_written_down_but_cant_fill_the_trail(
    world: PrivacyDoors,
) -> None:
    for _ in range(100):
        await world.submit(world.rest, "RESTRICT", ADA)
    written = await world.trail()
    world.rest.clock.ahead_s += 60
    await world.submit(world.rest, "RESTRICT", ADA)

    assert {(e["actor"], e["what"], e["result"]) for e in written} == {
        ("unknown", "authenticate", "refused")
    }
    assert len(written) == STRANGERS.burst
    assert (await world.trail())[-1]["times"] == 100 - STRANGERS.burst + 1


# ---------------------------------------------------------------- scopes


async def test_request_reaches_as_far_as_the_tokens_account(world: PrivacyDoors) -> None:
    await world.add_members(ADA, BOB)

    await world.taken(await world.bearer(world.seeded.shop), "ERASURE", ADA)
    await world.taken(await world.bearer(world.seeded.publisher), "ERASURE", BOB)

    hats = Membership(world.seeded.hats.id)
    shop, publisher = world.seeded.shop.id, world.seeded.publisher.id
    assert await world.record(ADA) == Record((OptOut(shop, OptOutAction.ERASURE),), (hats,))
    assert await world.record(BOB) == Record((OptOut(publisher, OptOutAction.ERASURE),), (hats,))


@pytest.mark.parametrize(
    ("whose", "scope", "reaches"),
    [
        pytest.param(None, {"entity_type": "global"}, None, id="global: everyone"),
        pytest.param(None, {"entity_type": "advertiser", "id": "shop"}, "shop", id="global: one"),
        pytest.param("group", {"entity_type": "publisher", "id": "p"}, "publisher", id="below"),
        pytest.param("group", {"entity_type": "advertiser", "id": "shop"}, "shop", id="reached"),
        pytest.param("group", {"entity_type": "media_group", "id": "g"}, "group", id="itself"),
        pytest.param(
            "publisher", {"entity_type": "advertiser", "id": "shop"}, "shop", id="related"
        ),
        pytest.param("agency", {"entity_type": "advertiser", "id": "sub"}, "sub", id="sub account"),
        pytest.param(
            "agency", {"entity_type": "advertiser", "id": "agency"}, "agency", id="agency"
        ),
        pytest.param("agency", None, "agency", id="none said"),
    ],
)
async def test_scope_within_reach_narrows_a_request(
    world_in_a_file: PrivacyDoors, whose: str | None, scope: Any, reaches: str | None
) -> None:
    world = world_in_a_file
    client = await world.bearer(getattr(world.seeded, whose) if whose else None)

    await world.taken(client, "RESTRICT", ADA, scope=scope)

    account_id = EVERYONE if reaches is None else getattr(world.seeded, reaches).id
    assert (await world.record(ADA)).opt_outs == (OptOut(account_id, OptOutAction.RESTRICT),)


@pytest.mark.parametrize(
    ("whose", "scope"),
    [
        pytest.param("shop", {"entity_type": "global"}, id="an advertiser for everyone"),
        pytest.param("shop", {"entity_type": "advertiser", "id": "agency"}, id="for another"),
        pytest.param("shop", {"entity_type": "publisher", "id": "p"}, id="for its publisher"),
        pytest.param("publisher", {"entity_type": "media_group", "id": "g"}, id="for its group"),
        pytest.param("publisher", {"entity_type": "advertiser", "id": "sub"}, id="unrelated"),
        pytest.param("group", {"entity_type": "global"}, id="a group for everyone"),
        pytest.param("sub", {"entity_type": "advertiser", "id": "agency"}, id="for its agency"),
        pytest.param(None, {"entity_type": "advertiser", "id": "nobody"}, id="for nobody"),
        pytest.param(None, {"entity_type": "publisher", "id": "shop"}, id="of another kind"),
    ],
)
async def test_scope_out_of_reach_is_refused_and_written_down(
    world_in_a_file: PrivacyDoors, whose: str | None, scope: Any
) -> None:
    world = world_in_a_file
    account = getattr(world.seeded, whose) if whose else None
    client = await world.bearer(account)

    answer = await world.submit(client, "ERASURE", ADA, scope=scope)

    assert error_of(answer) == (403, "OUT_OF_SCOPE")
    assert await world.record(ADA) == Record()
    (entry,) = await world.trail()
    assert (entry["what"], entry["result"], entry["actor"]) == ("ERASURE", "refused", "token")
    assert entry.get("account_id") == (account.id if account else None)
    assert len(entry["subjects"]) == 1


async def test_sub_accounts_of_the_same_name_are_not_guessed_between(world: PrivacyDoors) -> None:
    async with world.rest.services.ledger.begin() as conn:
        kind = world.seeded.agency.kind
        other = await accounts.add_account(conn, kind, "other", "Other", now_s=0)
        await accounts.add_account(
            conn, world.seeded.sub.kind, "sub", "Other's", parent=other, now_s=0
        )
    scope = {"entity_type": "advertiser", "id": "sub"}

    everyones = await world.submit(await world.bearer(), "RESTRICT", ADA, scope=scope)
    agencys = await world.submit(
        await world.bearer(world.seeded.agency), "RESTRICT", ADA, scope=scope
    )

    assert error_of(everyones) == (400, "AMBIGUOUS_SCOPE")
    assert agencys.status == 202


# ---------------------------------------------------------------- read and search


async def test_request_is_told_as_it_was_submitted(world: PrivacyDoors) -> None:
    hashes = [ADA, sha1(b"x").hexdigest(), md5(b"y").hexdigest()]
    client, officer = await world.bearer(), await world.bearer(is_internal=True)
    transaction_id = await world.taken(
        client, "RESTRICT", *hashes, liveIntentFpcs=[DUID], jurisdiction="EU_PRIVACY",
        submitter="desk 7", callback="https://cb.example/x",
    )  # fmt: skip

    told = (await officer.ask("GET", f"{REQUESTS}/{transaction_id}")).body

    assert sorted(told.pop("emailHashes")) == sorted(hashes)
    assert told.pop("createdAt").endswith("Z")
    assert told == {
        "transactionId": transaction_id,
        "action": "RESTRICT",
        "scope": {"Global": {}},
        "status": "completed",
        "jurisdiction": "EU_PRIVACY",
        "submitter": "desk 7",
        "callback": "https://cb.example/x",
        "userId": 1,
        "liveIntentFpcs": [],
    }


async def test_cookie_is_kept_nowhere_in_clear(world: PrivacyDoors) -> None:
    await world.taken(await world.bearer(), "RESTRICT", ADA, liveIntentFpcs=[DUID])

    async with world.rest.services.ledger.connect() as conn:
        for table in ("data_subject_ids", "data_subject_requests", "audit"):
            rows = (await conn.exec_driver_sql(f"select * from {table}")).all()
            assert DUID not in str(rows)


@pytest.mark.parametrize(
    ("whose", "told"),
    [
        pytest.param("shop", {"Advertiser": {"id": "shop"}}, id="advertiser"),
        pytest.param("agency", {"Advertiser": {"id": "agency"}}, id="agency"),
        pytest.param("publisher", {"PublisherMediaGroup": {"pid": "p", "mid": "g"}}, id="of group"),
        pytest.param("group", {"MediaGroup": {"id": "g"}}, id="media group"),
    ],
)
async def test_scope_is_told_in_the_documents_form(
    world_in_a_file: PrivacyDoors, whose: str, told: dict[str, Any]
) -> None:
    world = world_in_a_file
    client = await world.bearer(getattr(world.seeded, whose))
    officer = await world.bearer(is_internal=True)
    transaction_id = await world.taken(client, "RESTRICT", ADA)

    answer = await officer.ask("GET", f"{REQUESTS}/{transaction_id}")

    assert answer.body["scope"] == told


async def test_account_that_is_called_by_a_number_is_told_as_one(world: PrivacyDoors) -> None:
    async with world.rest.services.ledger.begin() as conn:
        kind = world.seeded.publisher.kind
        await accounts.add_account(conn, kind, "7001", "Daily", now_s=0)
    officer = await world.bearer(is_internal=True)
    scope = {"entity_type": "publisher", "id": 7001}
    transaction_id = await world.taken(officer, "RESTRICT", ADA, scope=scope)

    told = await officer.ask("GET", f"{REQUESTS}/{transaction_id}")

    assert told.body["scope"] == {"Publisher": {"id": 7001}}


async def test_what_is_internal_is_for_internal_tokens(world: PrivacyDoors) -> None:
    client = await world.bearer()
    transaction_id = await world.taken(client, "RESTRICT", ADA)
    ways = [
        ("POST", REQUESTS, {"action": "ACCESS", "emailHashes": [ADA]}),
        ("GET", f"{REQUESTS}/{transaction_id}", None),
        ("POST", f"/search{REQUESTS}", {"emailHashes": [ADA]}),
    ]

    answers = [await client.ask(*way) for way in ways]

    assert [error_of(answer) for answer in answers] == [(403, "INTERNAL_ONLY")] * 3
    refused = [entry["what"] for entry in await world.trail() if entry["result"] == "refused"]
    assert refused == ["ACCESS", "read", "search"]


@pytest.mark.parametrize("transaction_id", ["0" * 32, "x", "test", "%00", "%F0%9F%98%80"])
async def test_request_that_never_was_is_404(world: PrivacyDoors, transaction_id: str) -> None:
    officer = await world.bearer(is_internal=True)

    answer = await officer.ask("GET", f"{REQUESTS}/{transaction_id}")

    assert error_of(answer) == (404, "NOT_FOUND")


async def test_search_finds_every_request_of_a_person_the_newest_first(world: PrivacyDoors) -> None:
    officer = await world.bearer(is_internal=True)
    first = await world.taken(officer, "RESTRICT", ADA, BOB)
    world.rest.clock.ahead_s += 1
    await world.taken(officer, "RESTRICT", EVE)
    world.rest.clock.ahead_s += 1
    second = await world.taken(officer, "ACCESS", BOB)
    world.rest.clock.ahead_s += 1
    third = await world.taken(officer, "ERASURE", ADA)

    found = await officer.ask("POST", f"/search{REQUESTS}", {"emailHashes": [ADA, BOB.upper()]})

    assert [each["transactionId"] for each in found.body["results"]] == [third, second, first]
    assert found.body["results"][1]["status"] == "pending"


@pytest.mark.parametrize("hashes", [[], ["x"], [ADA, ADA], None])
async def test_search_for_nothing_is_refused(world: PrivacyDoors, hashes: Any) -> None:
    officer = await world.bearer(is_internal=True)

    answer = await officer.ask("POST", f"/search{REQUESTS}", {"emailHashes": hashes})

    assert error_of(answer) == (400, "BAD_REQUEST")


async def test_officer_of_an_account_sees_only_what_it_reaches(world: PrivacyDoors) -> None:
    """
    One partner is never shown what another one's persons asked for.
    """
    everyones = await world.taken(await world.bearer(), "RESTRICT", ADA)
    subs = await world.taken(await world.bearer(world.seeded.sub), "RESTRICT", ADA)
    shops = await world.taken(await world.bearer(world.seeded.shop), "RESTRICT", ADA)
    officer = await world.bearer(world.seeded.publisher, is_internal=True)

    found = await officer.ask("POST", f"/search{REQUESTS}", {"emailHashes": [ADA]})
    read = [await officer.ask("GET", f"{REQUESTS}/{t}") for t in (everyones, subs, shops)]

    assert [each["transactionId"] for each in found.body["results"]] == [shops]
    assert [answer.status for answer in read] == [404, 404, 200]
