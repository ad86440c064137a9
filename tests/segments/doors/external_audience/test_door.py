"""The operations of external audiences: what is asked and answered, who may, and every code."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.external_audience.access import CODE_TO_MESSAGE
from segments.ledger import accounts, audiences
from segments.ledger.external_audience import base_connections, orgs
from segments.ledger.privacy.opt_outs import SAME_FOR_S
from segments.model.audience import AudienceState
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed
from tests.refusals import REFUSALS
from tests.rest import Answer, Rest, serving
from tests.segments.doors.external_audience.external_world import (
    BASE,
    FIELDS,
    ORG,
    External,
    external_of,
    sandbox_of,
)

NOT_THERE = "60ccea95-1435-4180-97a5-58af4aa285ab"


@pytest.fixture
async def seeded(ledger: AsyncEngine) -> Seeded:
    return await seed(ledger)


@pytest.fixture
async def rest(settings: Settings, ledger: AsyncEngine, valkey: Engine) -> AsyncIterator[Rest]:
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving(settings, ledger, redis) as rest:
            yield rest


@pytest.fixture
async def external(rest: Rest, seeded: Seeded, tmp_path: Path) -> AsyncIterator[External]:
    async with external_of(rest, seeded, tmp_path / "customer") as external:
        yield external


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["errorCode"]


async def test_creation_echoes_the_audience_and_tells_its_id_when_it_is_there(
    external: External,
) -> None:
    answer = await external.rest.ask("POST", f"{BASE}/", external.spec)
    operation = await external.operation(answer.body["operationId"])

    details = {**external.spec, "ttlInDays": 40, "namespace": "CustomerAudienceUpload"}
    assert answer.status == 202
    assert answer.body == {
        "operationId": operation["operationId"],
        "operationDetails": details,
    }
    assert operation["operationDetails"] == details
    assert operation["status"] == "SUCCESS"
    assert operation["audienceName"] == "Sample external audience"
    assert (operation["createdBy"], operation["updatedBy"]) == ("jane", "jane")
    assert operation["createdAt"] == operation["updatedAt"] == int(external.rest.clock())
    async with external.rest.services.ledger.connect() as conn:
        [*_, made] = await audiences.audiences(conn)
        (credential,) = await orgs.credentials(conn)
    assert credential.used_at_s == int(external.rest.clock())
    assert (made.segment_id, made.ttl_days) == (operation["segmentId"], 40)


async def test_nested_source_is_taken_and_echoed_as_it_came(external: External) -> None:
    nested = {"params": {"path": "in/a.csv", "type": "file", "cloudType": "S3",
                         "baseConnectionId": external.connection_id}}  # fmt: skip

    answer = await external.rest.ask("POST", BASE, {**external.spec, "sourceSpec": nested})

    assert answer.status == 202
    assert answer.body["operationDetails"]["sourceSpec"] == nested


async def test_defaults_are_the_documents(external: External) -> None:
    spec = {
        "name": "Plain",
        "fields": FIELDS[:1],
        "sourceSpec": {"path": "in", "type": "folder"},
        "originName": "CUSTOM_UPLOAD",
    }

    details = (await external.rest.ask("POST", BASE, spec)).body["operationDetails"]

    assert (details["ttlInDays"], details["audienceType"], details["namespace"]) == (
        30,
        "people",
        "CustomerAudienceUpload",
    )


@pytest.mark.parametrize("prefix", ["/core/ais", "/data/core/ais"])
@pytest.mark.parametrize("name", ["external-audience", "external-audiences"])
@pytest.mark.parametrize("slash", ["", "/"])
async def test_every_spelling_of_every_path_is_served(
    external: External, prefix: str, name: str, slash: str
) -> None:
    rest, base = external.rest, f"{prefix}/{name}"

    created = await rest.ask("POST", f"{base}{slash}", external.spec)
    await external.operation(created.body["operationId"])
    operation = await rest.ask("GET", f"{base}/operations/{created.body['operationId']}{slash}")
    one = f"{base}/{operation.body['audienceId']}"
    changed = await rest.ask("PATCH", f"{one}{slash}", {"description": "New"})
    started = await rest.ask("POST", f"{one}/run{slash}", {"dataFilterStartTime": 1})
    again = await rest.ask("POST", f"{one}/runs{slash}", {"dataFilterStartTime": 1})
    run = await rest.ask("GET", f"{one}/runs/{started.body['runId']}{slash}")
    listed = await rest.ask("GET", f"{one}/runs{slash}")
    deleted = await rest.ask("DELETE", f"{one}{slash}")

    answers = [created, operation, changed, started, again, run, listed, deleted]
    assert [each.status for each in answers] == [202, 200, 200, 200, 422, 200, 200, 204]


async def test_change_replaces_what_is_given_and_nothing_else(external: External) -> None:
    audience_id = await external.create()

    changed = await external.rest.ask(
        "PATCH",
        f"{BASE}/{audience_id}",
        data=b'{"description": "New", "ttlInDays": "7", "labels": ["core/C9"],'
        b' "fields": [{"name": "mail", "labels": ["core/C5"]}]}',
        headers={"Content-Type": "application/x-www-form-urlencoded"},  # as the document's curl
    )

    assert changed.status == 200
    assert changed.body["audienceId"] == audience_id
    assert changed.body["description"] == "New"
    assert changed.body["ttlInDays"] == 7
    assert changed.body["labels"] == ["core/C9"]
    assert changed.body["fields"] == [{**FIELDS[0], "labels": ["core/C5"]}, FIELDS[1]]
    assert changed.body["name"] == "Sample external audience"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({}, "100960-422", id="nothing"),
        pytest.param({"name": "New"}, "100910-400", id="a member that can't be changed"),
        pytest.param({"ttlInDays": 91}, "100910-400", id="TTL too long"),
        pytest.param({"ttlInDays": 0}, "100910-400", id="TTL too short"),
        pytest.param({"fields": [{"name": "none"}]}, "100960-422", id="unknown field"),
        pytest.param(
            {"fields": [{"name": "mail", "type": "number"}]}, "100960-422", id="type of a field"
        ),
    ],
)
async def test_change_that_cannot_be_is_refused(
    external: External, change: dict[str, Any], expected: str
) -> None:
    audience_id = await external.create()

    answer = await external.rest.ask("PATCH", f"{BASE}/{audience_id}", change)

    assert code(answer)[1] == expected


async def test_deleted_audience_is_not_there_any_more_and_its_name_is_free(
    external: External, ledger: AsyncEngine, seeded: Seeded
) -> None:
    audience_id = await external.create()

    deleted = await external.rest.ask("DELETE", f"{BASE}/{audience_id}/")
    again = await external.rest.ask("DELETE", f"{BASE}/{audience_id}")
    external.rest.clock.ahead_s += SAME_FOR_S + 1
    late = await external.rest.ask("DELETE", f"{BASE}/{audience_id}")
    anew = await external.create()

    async with ledger.connect() as conn:
        states = [a.state for a in await audiences.audiences(conn, seeded.shop)]
    assert (deleted.status, deleted.raw) == (204, b"")
    assert again.status == 204, "the same deletion, for an hour"
    assert code(late) == (404, "100940-404")
    assert anew != audience_id
    assert states[-2:] == [AudienceState.DELETED, AudienceState.ACTIVE]


async def test_deletion_that_bids_may_not_obey_yet_is_told_so_and_may_be_repeated(
    external: External, valkey: Engine
) -> None:
    audience_id = await external.create()

    with REFUSALS["OOM"](valkey):
        told = await external.rest.ask("DELETE", f"{BASE}/{audience_id}")
        gone = await external.rest.ask("GET", f"{BASE}/{audience_id}/runs")
    again = await external.rest.ask("DELETE", f"{BASE}/{audience_id}")

    assert (told.status, told.content_type) == (503, "application/problem+json")
    assert told.headers["Retry-After"] == "5"
    assert told.body["errorCode"] == "NOT_IN_FORCE_YET"
    assert gone.status == 404
    assert again.status == 204


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param({"name": ""}, "100910-400", id="no name"),
        pytest.param({"originName": "OTHER"}, "100910-400", id="another origin"),
        pytest.param({"originName": None}, "100910-400", id="no origin"),
        pytest.param({"audienceType": "accounts"}, "100910-400", id="not people"),
        pytest.param({"ttlInDays": "91"}, "100910-400", id="TTL too long"),
        pytest.param({"ttlInDays": "x"}, "100910-400", id="TTL that is none"),
        pytest.param({"fields": []}, "100910-400", id="no fields"),
        pytest.param({"fields": [{"name": "a", "type": "text"}]}, "100910-400", id="type"),
        pytest.param({"fields": FIELDS[1:]}, "100960-422", id="no identity"),
        pytest.param({"fields": FIELDS * 2}, "100960-422", id="two of one name"),
        pytest.param(
            {"fields": [*FIELDS, {**FIELDS[0], "name": "MAIL"}]}, "100960-422", id="but for case"
        ),
        pytest.param(
            {"fields": [{"name": "a", "type": "date", "identityNs": "email"}]},
            "100960-422",
            id="identity of a type that holds none",
        ),
        pytest.param({"path": "/etc/passwd"}, "100910-400", id="absolute path"),
        pytest.param({"path": "../secret.csv"}, "100910-400", id="path upwards"),
        pytest.param({"path": "in/../../secret.csv"}, "100910-400", id="path up and down"),
        pytest.param({"path": "in\\..\\a.csv"}, "100910-400", id="backslashes"),
        pytest.param({"path": "in/a b.csv"}, "100910-400", id="blanks"),
        pytest.param({"path": "in/\x00"}, "100910-400", id="NUL"),
        pytest.param({"path": "in//a.csv"}, "100910-400", id="empty segment"),
        pytest.param({"baseConnectionId": NOT_THERE}, "100960-422", id="unknown connection"),
    ],
)
async def test_creation_that_cannot_be_is_refused(
    external: External, said: dict[str, Any], expected: str
) -> None:
    spec = {**external.spec, **{k: v for k, v in said.items() if k in external.spec}}
    source = {k: v for k, v in said.items() if k not in external.spec}
    spec["sourceSpec"] = {**external.spec["sourceSpec"], **source}

    answer = await external.rest.ask("POST", BASE, spec)

    assert code(answer) == (int(expected[-3:]), expected)
    assert answer.body["title"] == CODE_TO_MESSAGE[expected]
    assert answer.body["type"].endswith(expected)


async def test_same_name_or_custom_id_is_a_duplicate(external: External) -> None:
    await external.create(customAudienceId="crm-7")

    same_name = await external.rest.ask("POST", BASE, external.spec)
    same_id = await external.rest.ask(
        "POST", BASE, {**external.spec, "name": "Other", "customAudienceId": "crm-7"}
    )
    elsewhere = await external.rest.ask("POST", BASE, {**external.spec, "namespace": "Other"})

    assert code(same_name) == code(same_id) == (409, "100950-409")
    assert elsewhere.status == 202


async def test_creation_fails_where_the_base_connection_cannot_be_read(
    external: External,
) -> None:
    external.folder.rename(external.folder.with_name("gone"))

    created = await external.rest.ask("POST", BASE, external.spec)
    failed = await external.operation(created.body["operationId"])
    external.folder.with_name("gone").rename(external.folder)

    assert failed["status"] == "FAILED"
    assert failed["error"] == "base connection folder: the directory is not there"
    assert "audienceId" not in failed
    assert await external.create()


async def test_creation_that_was_left_by_its_process_is_finished_by_whoever_asks(
    external: External,
) -> None:
    door = external.rest.services
    spec = {**external.spec}
    # As a process leaves it that dies right behind its answer.
    from segments.ledger.external_audience import audiences as external_audiences

    async with door.ledger.begin() as conn:
        sandbox = await orgs.sandbox(conn, ORG, "prod")
        [connection] = await base_connections.connections(conn, sandbox)
        left = await external_audiences.add(
            conn, sandbox, connection_id=connection.id, namespace="n", name="Left", custom_id=None,
            ttl_days=3, user_id="jane", now_s=door.now_s(),
            spec={k: spec[k] for k in ("fields", "sourceSpec", "originName", "audienceType")},
        )  # fmt: skip

    first = await external.rest.ask("GET", f"{BASE}/operations/{left.operation_id}")
    then = await external.operation(left.operation_id)

    assert first.body["status"] == "PROCESSING"
    assert then["status"] == "SUCCESS"


# --- who may ---------------------------------------------------------------


async def ask_everything(
    rest: Rest, spec: dict[str, Any], operation_id: str, audience_id: str, run_id: str
) -> list[Answer]:
    """Ask for every operation."""
    one = f"{BASE}/{audience_id}"
    return [
        await rest.ask("GET", f"{BASE}/operations/{operation_id}"),
        await rest.ask("PATCH", one, {"description": "New"}),
        await rest.ask("POST", f"{one}/runs", {"dataFilterStartTime": 1}),
        await rest.ask("GET", f"{one}/runs"),
        await rest.ask("GET", f"{one}/runs/{run_id}"),
        await rest.ask("DELETE", one),
        await rest.ask("POST", BASE, spec),
    ]


@pytest.mark.parametrize("reaching", ["another org", "another sandbox"])
async def test_nothing_of_one_sandbox_can_be_reached_from_another(
    external: External, rest: Rest, seeded: Seeded, tmp_path: Path, reaching: str
) -> None:
    created = await external.rest.ask("POST", BASE, external.spec)
    audience_id = (await external.operation(created.body["operationId"]))["audienceId"]
    run = await external.run(audience_id)
    where = {"org": "OTHER@AdobeOrg"} if reaching == "another org" else {"sandbox": "dev"}

    async with sandbox_of(rest, seeded.shop, tmp_path / "other", **where) as other:
        answers = await ask_everything(
            other.rest,
            external.spec,  # whose base connection is not the other's
            created.body["operationId"],
            audience_id,
            run["runId"],
        )

    assert [code(answer) for answer in answers[:-1]] == [(404, "100940-404")] * 6
    assert code(answers[-1]) == (422, "100960-422")
    assert (await external.status(audience_id, run["runId"]))["status"] == "SUCCESS"


async def test_run_of_one_audience_is_not_another_ones(external: External) -> None:
    one, other = await external.create(), await external.create(name="Other")
    run = await external.run(one)

    answer = await external.rest.ask("GET", f"{BASE}/{other}/runs/{run['runId']}")

    assert code(answer) == (404, "100940-404")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"Authorization": None}, "100920-401", id="no Authorization"),
        pytest.param({"x-api-key": None}, "100920-401", id="no x-api-key"),
        pytest.param({"x-gw-ims-org-id": None}, "100920-401", id="no x-gw-ims-org-id"),
        pytest.param({"x-sandbox-name": None}, "100920-401", id="no x-sandbox-name"),
        pytest.param({"Authorization": "Bearer x"}, "100911-400", id="unknown token"),
        pytest.param({"Authorization": "Basic eDp4"}, "100911-400", id="no bearer token"),
        pytest.param({"x-gw-ims-org-id": "OTHER"}, "100921-401", id="another org"),
        pytest.param({"x-api-key": "0" * 32}, "100922-401", id="another API key"),
        pytest.param({"x-sandbox-name": "dev"}, "100922-401", id="another sandbox"),
    ],
)
async def test_headers_that_do_not_agree_are_refused_in_every_operation(
    external: External, headers: dict[str, str | None], expected: str
) -> None:
    wrong = {**external.rest.headers, **headers}
    external.rest.headers = {name: value for name, value in wrong.items() if value is not None}

    answers = await ask_everything(external.rest, external.spec, NOT_THERE, NOT_THERE, NOT_THERE)

    assert [code(answer) for answer in answers] == [(int(expected[-3:]), expected)] * 7


async def test_revoked_token_and_deactivated_account_are_not_authorised(
    external: External, ledger: AsyncEngine, seeded: Seeded
) -> None:
    async with ledger.begin() as conn:
        await accounts.set_account_active(conn, seeded.shop, is_active=False)
    inactive = await external.rest.ask("POST", BASE, external.spec)
    async with ledger.begin() as conn:
        await accounts.set_account_active(conn, seeded.shop, is_active=True)
        await orgs.revoke(conn, external.rest.headers["x-api-key"])
    revoked = await external.rest.ask("POST", BASE, external.spec)

    assert code(inactive) == code(revoked) == (401, "100922-401")


async def test_token_is_kept_as_its_hash_alone(external: External, settings: Settings) -> None:
    token = external.rest.headers["Authorization"].split()[1].encode()

    kept = [path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()]

    assert not any(token in content for content in kept)


async def test_fault_of_ours_has_the_vendors_code_and_says_nothing_of_the_request(
    external: External, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("alice@example.com")

    monkeypatch.setattr(orgs, "credential_of", broken)

    answer = await external.rest.ask("POST", BASE, external.spec)

    assert code(answer) == (500, "100970-500")
    assert "alice" not in answer.raw.decode()


async def test_what_the_vendor_has_no_code_for_is_a_plain_problem(external: External) -> None:
    answers = [
        await external.rest.ask("GET", BASE),
        await external.rest.ask("POST", BASE, data=b"x", headers={"Content-Type": "text/csv"}),
        await external.rest.ask(
            "POST",
            BASE,
            data=io.BytesIO(b"x" * (1 << 21)),
            headers={"Content-Type": "application/json"},
        ),
    ]

    assert [answer.status for answer in answers] == [405, 415, 413]
    assert [answer.body["type"] for answer in answers] == ["about:blank"] * 3


# --- idempotency -----------------------------------------------------------


async def test_creation_that_is_sent_twice_with_a_key_is_carried_out_once(
    external: External,
) -> None:
    key = {"Idempotency-Key": "k-1"}

    first = await external.rest.ask("POST", BASE, external.spec, headers=key)
    again = await external.rest.ask("POST", BASE, external.spec, headers=key)
    other = await external.rest.ask("POST", BASE, {**external.spec, "name": "Other"}, headers=key)

    assert (first.status, again.status) == (202, 202)
    assert first.body == again.body
    assert again.headers["Idempotency-Replayed"] == "true"
    assert code(other) == (422, "100960-422")


async def test_creations_at_once_with_one_key_are_one(external: External) -> None:
    key = {"Idempotency-Key": "k-1"}

    answers = await asyncio.gather(
        *(external.rest.ask("POST", BASE, external.spec, headers=key) for _ in range(5))
    )

    assert {answer.status for answer in answers} <= {202, 409}
    assert len({a.body["operationId"] for a in answers if a.status == 202}) == 1


async def test_key_of_a_request_that_failed_can_be_used_again(external: External) -> None:
    key = {"Idempotency-Key": "k-1"}

    failed = await external.rest.ask(
        "POST", BASE, {**external.spec, "fields": FIELDS[1:]}, headers=key
    )
    then = await external.rest.ask("POST", BASE, external.spec, headers=key)

    assert (failed.status, then.status) == (422, 202)


async def test_key_of_another_sandbox_is_another_key(
    external: External, rest: Rest, seeded: Seeded, tmp_path: Path
) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = await external.rest.ask("POST", BASE, external.spec, headers=key)

    async with sandbox_of(rest, seeded.shop, tmp_path / "other", sandbox="dev") as other:
        second = await other.rest.ask("POST", BASE, other.spec, headers=key)

    assert second.status == 202
    assert first.body["operationId"] != second.body["operationId"]


async def test_key_is_forgotten_after_a_day(external: External) -> None:
    key = {"Idempotency-Key": "k-1"}
    await external.rest.ask("POST", BASE, external.spec, headers=key)

    external.rest.clock.ahead_s = 86_401
    answer = await external.rest.ask("POST", BASE, {**external.spec, "name": "Other"}, headers=key)

    assert answer.status == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "ü"])
async def test_key_that_is_none_is_refused(external: External, key: str) -> None:
    answer = await external.rest.ask("POST", BASE, external.spec, headers={"Idempotency-Key": key})

    assert code(answer) == (400, "100910-400")
