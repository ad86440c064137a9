"""What the customer of an external audience is told of an ingestion, and what it is not."""

from pathlib import Path

import pytest
from sqlalchemy import update

from segments.ledger import jobs
from segments.ledger.external_audience import base_connections, orgs
from segments.ledger.tables import jobs as job_rows
from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.record import OptOutAction
from segments.projection.opt_outs import record_opt_out
from tests.segments.doors.external_audience.external_world import BASE, ORG, External
from tests.segments.doors.rest.rest_world import hashes

ADDRESSES = tuple(f"p{n}@example.com" for n in range(10))
HELD = (
    "held: more persons would leave the audience than may at once; it waits until the operator"
    " releases it"
)


def spec_of(external: External, path: str) -> dict[str, str]:
    return {"path": path, "type": "folder", "baseConnectionId": external.connection_id}


async def audience_in(external: External, folder: str) -> str:
    return await external.create(name=folder, sourceSpec=spec_of(external, f"in/{folder}"))


def put(external: External, folder: str, *addresses: str) -> Path:
    return external.put(f"{folder}/a.csv", "mail\n" + "".join(f"{a}\n" for a in addresses))


async def held_run(external: External, folder: str, *more: str) -> tuple[str, str]:
    """Have a run wait that would take out nine of ten, and more; return audience and run."""
    audience_id = await audience_in(external, folder)
    put(external, folder, *ADDRESSES, *more)
    await external.run(audience_id)
    external.rest.clock.ahead_s += 10
    put(external, folder, ADDRESSES[0])
    run = await external.run(audience_id, differentialIngestion=False)
    return audience_id, run["runId"]


async def test_held_run_says_so_and_what_waits_behind_it(external: External) -> None:
    audience_id, run_id = await held_run(external, "one")
    other_id = await audience_in(external, "other")
    put(external, "other", ADDRESSES[0])
    behind = await external.run(other_id)

    held = await external.status(audience_id, run_id)

    assert held["status"] == "PROCESSING"
    assert held["details"][1]["message"] == (f"{HELD}; 1 later files or ingestions wait behind it")
    assert behind["details"][0]["message"] == (
        f"waits behind ingestion {run_id}, which is held until the operator releases it"
    )


async def test_deletion_of_its_audience_ends_a_held_run_and_lets_others_go_on(
    external: External,
) -> None:
    audience_id, _ = await held_run(external, "one")
    other_id = await audience_in(external, "other")
    put(external, "other", ADDRESSES[0])
    behind = await external.run(other_id)

    deleted = await external.rest.ask("DELETE", f"{BASE}/{audience_id}")
    await external.load_all()

    assert deleted.status == 204
    assert (await external.status(other_id, behind["runId"]))["status"] == "SUCCESS"


async def test_nothing_that_is_told_of_a_hold_depends_on_whether_a_person_has_opted_out(
    external: External,
) -> None:
    """
    The share that the operator reads is of members in the store, who are one fewer then.
    """
    services = external.rest.services
    one, run_id = await held_run(external, "one")
    async with services.ledger.begin() as conn:
        [job, *_] = await jobs.jobs(conn, 1)
        assert await jobs.refuse(conn, job, services.now_s())
    erased = [(IdentifierKind.EMAIL, id_of_email_hash(d)) for d in hashes("p1")]
    await record_opt_out(services.ledger, external.redis, OptOutAction.ERASURE, erased)
    other, other_run_id = await held_run(external, "other")
    waits = await external.status(other, other_run_id)
    async with services.ledger.begin() as conn:
        [other_job, *_] = await jobs.jobs(conn, 1)
        assert await jobs.refuse(conn, other_job, services.now_s())

    told = [await external.status(one, run_id), await external.status(other, other_run_id)]

    assert job.report.held_because != other_job.report.held_because
    assert waits["details"][1]["message"] == HELD
    assert told[0]["details"][1]["message"] == told[1]["details"][1]["message"]
    assert told[0]["details"][1]["message"].startswith("not_released: The operator has refused")


async def test_columns_that_were_found_are_told_and_no_value_is_taken_for_one(
    external: External,
) -> None:
    audience_id = await audience_in(external, "one")
    external.put("one/people.csv", "alice@example.com,31612345678\nbob@example.com,1\n")

    run = await external.run(audience_id)

    assert run["details"][0]["message"] == (
        "unreadable_file: in/one/people.csv: it has no column mail;"
        " it has 2 of its first row that are no names of columns"
    )


async def test_fault_of_ours_names_no_place_in_our_code(external: External) -> None:
    audience_id = await audience_in(external, "one")
    put(external, "one", ADDRESSES[0])
    run = await external.run(audience_id)
    async with external.rest.services.ledger.begin() as conn:
        await conn.execute(
            update(job_rows).values(state="failed", error="internal: Error at _csv:126")
        )

    told = await external.status(audience_id, run["runId"])

    assert told["details"][1]["message"] == (
        "internal: Nothing is wrong with the delivery; ask the operator, then send it again."
    )


async def test_connection_that_is_set_up_wrongly_is_no_fault_of_the_far_end(
    external: External, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CUSTOMER_KEY", "x")
    options = {
        "aws_access_key_id": "AKID",
        "aws_secret_access_key": "env:CUSTOMER_KEY",
        "aws_region": "eu-west-1",
    }
    async with external.rest.services.ledger.begin() as conn:
        sandbox = await orgs.sandbox(conn, ORG, "prod")
        bucket = await base_connections.add_connection(
            conn, sandbox, "their bucket", "s3://customers/in", options, now_s=0
        )
    spec = {**external.spec, "name": "b", "sourceSpec": {
        "path": "in", "type": "folder", "baseConnectionId": bucket.public_id}}  # fmt: skip
    monkeypatch.delenv("CUSTOMER_KEY")

    created = await external.rest.ask("POST", BASE, spec)
    operation = await external.operation(created.body["operationId"])

    assert operation["status"] == "FAILED"
    assert operation["error"] == (
        "base connection their bucket is set up wrongly here; the operator has to look"
    )
    assert "CUSTOMER_KEY is not set" in caplog.text
