"""What ingestions of external audiences do to the store, and what they say of themselves."""

import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ingest.external_audience import replace as retain_module
from segments.ingest.run import run
from segments.ingest.tools import Tools
from segments.ledger import job_leases, jobs
from segments.model.identity import IdentifierKind, id_of_eid, id_of_email_hash, id_of_ifa
from segments.model.job import Job, JobState
from segments.model.record import OptOutAction, day_of
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store import keys
from segments.upkeep.rebuild import rebuild
from segments.upkeep.scrub.scrubber import Scrubber
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed
from tests.segments.doors.external_audience.external_world import BASE, External, external_served
from tests.segments.doors.rest.rest_world import hashes
from tests.segments.upkeep.histories import Killed

NAMES = ("alice", "bob", "carol")
ADDRESSES = tuple(f"{name}@example.com" for name in NAMES)
IDS = tuple(id_of_email_hash(digest) for digest in hashes(*NAMES))
MAX_RUNS = 4


@pytest.fixture
async def seeded(ledger: AsyncEngine) -> Seeded:
    return await seed(ledger)


@pytest.fixture
async def external(
    settings: Settings, ledger: AsyncEngine, seeded: Seeded, valkey: Engine, tmp_path: Path
) -> AsyncIterator[External]:
    limited = settings.model_copy(
        update={"external_runs_per_audience": MAX_RUNS, "external_max_bytes": 100_000}
    )
    folder = tmp_path / "customer"
    async with external_served(limited, ledger, valkey, folder, seeded) as external:
        yield external


def table(*addresses: str) -> str:
    return "mail,list_id\n" + "".join(f"{address},7\n" for address in addresses)


async def test_everybody_in_the_files_becomes_a_member_for_the_ttl(external: External) -> None:
    audience_id = await external.create(ttlInDays=2)
    external.put("a.csv", table(ADDRESSES[0], " BOB@example.com "))

    run = await external.run(audience_id)

    expiry_day = day_of(external.rest.clock()) + 2
    records = await external.records(IDS)
    assert [[m.expiry_day for m in r.memberships] for r in records] == [
        [expiry_day],
        [expiry_day],
        [],
    ]
    assert run["status"] == "SUCCESS"
    assert [(d["stage"], d["status"]) for d in run["details"]] == [
        ("DATASET_INGEST", "SUCCESS"),
        ("PROFILE_STORE_INGEST", "SUCCESS"),
    ]
    assert run["details"][0]["message"] == "1 files, 2 rows, 0 of them unusable"


async def test_controls_of_a_warehouse_are_obeyed_in_capitals(external: External) -> None:
    """
    Where `DELETE` is not found, who was to be deleted is shown, and who said no.
    """
    declared = ("MAIL", "DELETE", "PROCESS_CONSENT")
    audience_id = await external.create(
        fields=[
            {"name": name, "type": "string", **({"identityNs": "email"} if name == "MAIL" else {})}
            for name in declared
        ]
    )
    alice, bob, carol = ADDRESSES
    external.put("a.csv", f"mail,Delete,PROCESS_CONSENT\n{alice},0,y\n{bob},1,y\n{carol},0,n\n")

    run = await external.run(audience_id)

    assert await external.members(IDS) == [True, False, False]
    assert run["details"][0]["message"] == "1 files, 3 rows, 0 of them unusable"


async def test_what_cannot_be_read_removes_and_is_told(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    await external.run(audience_id)
    alice, bob, carol = ADDRESSES
    external.put("b.csv", f"mail,delete\n{alice},x\n{bob},2026-11-29\n{carol},0\nnobody,1\n")

    run = await external.run(audience_id)

    assert await external.members(IDS) == [False, False, True]
    assert run["details"][0]["message"] == (
        "1 files, 4 rows, 1 of them unusable; 1 values are no id of their namespace;"
        " 2 values of delete are no plain yes or no: these persons left"
    )


async def test_file_with_two_columns_of_one_name_is_refused_with_both(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", f"mail,delete,DELETE\n{ADDRESSES[0]},0,1\n")

    run = await external.run(audience_id)

    assert run["status"] == "FAILED"
    assert "it has columns delete and DELETE" in run["details"][0]["message"]


async def test_file_whose_column_is_no_utf_8_is_refused_and_the_run_is_over(
    external: External,
) -> None:
    audience_id = await external.create()
    external.put("a.csv", "pr\u00e9nom,adresse\n".encode("latin-1"))

    run = await external.run(audience_id)

    assert run["status"] == "FAILED"
    assert "its columns are pr\ufffdnom, adresse" in run["details"][0]["message"]


async def test_changed_ttl_holds_from_the_next_run_on_and_a_run_renews(external: External) -> None:
    audience_id = await external.create(ttlInDays=2)
    external.put("a.csv", table(*ADDRESSES))
    await external.run(audience_id)

    await external.rest.ask("PATCH", f"{BASE}/{audience_id}", {"ttlInDays": 9})
    before = await external.records(IDS)
    external.rest.clock.ahead_s = 86_400
    external.put("b.csv", table(ADDRESSES[0]))
    await external.run(audience_id)
    after = await external.records(IDS)

    day = day_of(external.rest.clock()) - 1
    assert [r.memberships[0].expiry_day - day for r in before] == [2, 2, 2]
    assert [r.memberships[0].expiry_day - day for r in after] == [10, 2, 2]


async def test_only_files_within_the_window_are_taken(external: External) -> None:
    audience_id = await external.create()
    for at_s, address in enumerate(ADDRESSES, start=1000):
        external.put(f"{at_s}.csv", table(address), at_s)

    run = await external.run(audience_id, dataFilterStartTime=1001, dataFilterEndTime=1001)

    assert await external.members(IDS) == [False, True, False]
    assert (run["dataFilterStartTime"], run["dataFilterEndTime"]) == (1001, 1001)


async def test_differential_run_takes_only_what_none_took_before(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(ADDRESSES[0]))
    await external.run(audience_id)
    external.put("b.csv", table(ADDRESSES[1]))

    second = await external.run(audience_id)
    third = await external.run(audience_id)
    external.put("b.csv", table(ADDRESSES[2]), external.rest.clock() - 2)
    fourth = await external.run(audience_id)

    assert [run["details"][0]["message"] for run in (second, third, fourth)] == [
        "1 files, 1 rows, 0 of them unusable",
        "0 files, 0 rows, 0 of them unusable",
        "1 files, 1 rows, 0 of them unusable",
    ]
    assert third["status"] == "SUCCESS"
    assert await external.members(IDS) == [True, True, True]


async def test_file_of_a_run_that_failed_was_not_taken(external: External) -> None:
    audience_id = await external.create()
    good = external.put("a.csv", table(ADDRESSES[0]))
    external.put("b.csv", "no,such,columns\n1,2,3\n")
    failed = await external.run(audience_id)
    (good.parent / "b.csv").unlink()

    again = await external.run(audience_id)

    assert failed["status"] == "FAILED"
    assert failed["details"][0]["message"] == (
        "unreadable_file: in/b.csv: it has no column mail; its columns are no, such, columns"
    )
    assert again["status"] == "SUCCESS"
    assert await external.members(IDS[:1]) == [True]


async def test_full_run_removes_whom_no_file_names(external: External) -> None:
    audience_id = await external.create()
    other_id = await external.create(name="Another", sourceSpec=spec_of(external, "in/b.csv"))
    external.put("a.csv", table(*ADDRESSES))
    external.put("b.csv", table(*ADDRESSES))
    await external.run(other_id)
    await external.run(audience_id)
    (external.folder / "in" / "b.csv").unlink()
    external.put("a.csv", table(*ADDRESSES[:2]), external.rest.clock() - 1)

    run = await external.run(audience_id, differentialIngestion=False)

    assert (run["status"], run["differentialIngestion"]) == ("SUCCESS", False)
    assert [len(r.memberships) for r in await external.records(IDS)] == [2, 2, 1]


async def test_full_run_that_would_empty_the_audience_waits_for_the_operator(
    external: External,
) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    await external.run(audience_id)
    external.put("a.csv", table("dave@example.com"), external.rest.clock() - 1)

    run = await external.run(audience_id, differentialIngestion=False)
    before = await external.members(IDS)
    async with external.rest.services.ledger.begin() as conn:
        [job, *_] = await jobs.jobs(conn, 1)
        assert await jobs.release(conn, job)
    await external.load_all()

    assert run["status"] == "PROCESSING"
    assert run["details"][1]["message"].startswith("held: ")
    assert before == [True] * 3
    assert await external.members(IDS) == [False] * 3
    assert (await external.status(audience_id, run["runId"]))["status"] == "SUCCESS"


async def test_full_run_over_no_file_or_no_usable_row_removes_nobody(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    await external.run(audience_id)

    nothing = await external.start(
        audience_id, differentialIngestion=False, dataFilterStartTime=5, dataFilterEndTime=6
    )
    external.put("a.csv", "mail,list_id\nnobody,1\n", external.rest.clock() - 1)
    unusable = await external.run(audience_id, differentialIngestion=False)

    assert (nothing.status, nothing.body["errorCode"]) == (422, "100960-422")
    assert unusable["status"] == "FAILED"
    assert await external.members(IDS) == [True] * 3


async def test_delete_column_and_missing_consent_take_persons_out(external: External) -> None:
    fields = [
        {"name": "mail", "type": "string", "identityNs": "Email"},
        {"name": "delete", "type": "number"},
        {"name": "process_consent", "type": "string"},
    ]
    audience_id = await external.create(fields=fields)
    header = "mail,delete,process_consent\n"
    external.put("a.csv", header + "".join(f"{a},0,y\n" for a in ADDRESSES))
    await external.run(audience_id)
    before = await external.members(IDS)

    rows = f"{ADDRESSES[0]},1,y\n{ADDRESSES[1]},,n\n{ADDRESSES[2]},0,yes\n"
    external.put("b.csv", header + rows, external.rest.clock() - 1)
    await external.run(audience_id)

    assert before == [True] * 3
    assert await external.members(IDS) == [False, False, True]


async def test_last_word_of_a_person_holds(external: External) -> None:
    fields = [{"name": "mail", "type": "string", "identityNs": "email"},
              {"name": "delete", "type": "boolean"}]  # fmt: skip
    audience_id = await external.create(fields=fields)
    header = "mail,delete\n"
    alice, bob, _ = ADDRESSES
    external.put("b.csv", f"{header}{alice},true\n{bob},false\n", 1000)
    external.put("a.csv", f"{header}{alice},false\n{bob},false\n{bob},true\n", 2000)

    await external.run(audience_id)

    assert await external.members(IDS[:2]) == [True, False]


async def test_each_namespace_becomes_its_kind_of_id_in_every_format(external: External) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    ifa = "AEBE52E7-03EE-455A-B3C4-E57283966239"
    gaid = "cdda802e-fb9c-47ad-9866-0794d394c912"
    ecid = 10000000000000000000000000000000000001
    fields = [
        {"name": "mail", "type": "string", "identityNs": "email"},
        {"name": "idfa", "type": "string", "identityNs": "IDFA"},
        {"name": "gaid", "type": "string", "identityNs": "GAID"},
        {"name": "ecid", "type": "string", "identityNs": "ECID"},
        {"name": "crm", "type": "string", "identityNs": "CRM_ID"},
    ]
    audience_id = await external.create(fields=fields)
    nothing = dict.fromkeys(("mail", "idfa", "gaid", "ecid", "crm"))
    external.put("a.csv", f"mail,idfa,gaid,ecid,crm\n{hashes('alice')[0].upper()},,,,\n")
    external.put("b.json", json.dumps({**nothing, "idfa": ifa}) + "\n{broken\n")
    external.put("c.json", json.dumps([{**nothing, "gaid": gaid}, 3], indent=1))
    external.put("d.json.gz", gzip.compress(json.dumps({"ecid": ecid}).encode()))
    rows = pa.table({name: pa.array([None, "x-1"] if name == "crm" else [None, None], pa.string())
                     for name in nothing})  # fmt: skip
    parquet.write_table(rows, external.folder / "in" / "e.parquet")

    run = await external.run(audience_id, dataFilterEndTime=int(external.rest.clock()) + 60)

    ids = [
        IDS[0],
        id_of_ifa(ifa),
        id_of_ifa(gaid),
        id_of_eid("ecid", str(ecid)),
        id_of_eid("crm_id", "x-1"),
    ]
    assert await external.members(ids) == [True] * 5
    assert run["details"][0]["message"] == "5 files, 8 rows, 3 of them unusable"


async def test_no_address_is_kept_anywhere(external: External, settings: Settings) -> None:
    audience_id = await external.create()
    external.put("a.csv", table("Alice.Secret@Example.com"))

    await external.run(audience_id)

    kept = [path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()]
    dump = [v for k in await external.redis.keys(b"*") if b":m:" in k
            for v in await external.redis.hvals(k)]  # fmt: skip
    assert kept
    assert not any(b"secret@example" in content.lower() for content in [*kept, *dump])


async def test_rebuild_makes_runs_again_byte_for_byte_without_the_customers_files(
    external: External,
) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES, *(f"p{n}@example.com" for n in range(50))))
    await external.run(audience_id)
    services = external.rest.services
    await record_opt_out(
        services.ledger, external.redis, OptOutAction.RESTRICT, [(IdentifierKind.EMAIL, IDS[0])]
    )
    external.put("a.csv", table(*ADDRESSES[:2], *(f"p{n}@example.com" for n in range(40))))
    full = await external.run(audience_id, differentialIngestion=False)
    lost = await dump(external)
    (external.folder / "in" / "a.csv").unlink()

    tools = Tools(services.ledger, external.redis, services.blobs,
                  external.rest.settings.spool_dir, external.rest.clock)  # fmt: skip
    await rebuild(tools, external.rest.settings.expected_ids, settle_s=0)

    assert full["status"] == "SUCCESS"
    assert await external.members(IDS) == [True, True, False]
    assert await dump(external) == lost


async def test_erased_person_is_scrubbed_from_what_is_kept_of_a_run(external: External) -> None:
    """
    A run that waits has no file of ids yet, and is seen to when it has.
    """
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    services = external.rest.services
    await external.start(audience_id)
    await record_opt_out(
        services.ledger, external.redis, OptOutAction.ERASURE, [(IdentifierKind.EMAIL, IDS[0])]
    )
    scrubber = Scrubber(
        services.ledger, services.blobs, external.rest.settings.spool_dir, services.now_s
    )

    waiting = await scrubber.scrub(services.now_s() + 1)
    await external.load_all()
    lost = await dump(external)
    kept_before = await kept_bytes(external)
    done = await scrubber.scrub(services.now_s() + 1)
    kept = await kept_bytes(external)
    tools = Tools(services.ledger, external.redis, services.blobs,
                  external.rest.settings.spool_dir, external.rest.clock)  # fmt: skip
    await rebuild(tools, external.rest.settings.expected_ids, settle_s=0)

    assert (waiting.at_work, waiting.rewritten) == (1, 0)
    assert IDS[0][:15] in kept_before
    assert (done.rewritten, done.lines) == (1, 1)
    assert IDS[0][:12] not in kept
    assert IDS[1][:15] in kept
    assert await dump(external) == lost
    assert await external.members(IDS) == [False, True, True]
    assert (await scrubber.scrub(services.now_s() + 2)).rewritten == 0


async def kept_bytes(external: External) -> bytes:
    blobs = external.rest.services.blobs
    return b"".join([blobs.get(name).read() for name in await blobs.names()])


async def test_storage_that_is_away_is_a_bad_gateway_and_not_a_fault_of_the_run(
    external: External,
) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    external.folder.rename(external.folder.with_name("gone"))

    away = await external.start(audience_id)
    external.folder.with_name("gone").rename(external.folder)
    back = await external.run(audience_id)

    assert (away.status, away.body["errorCode"]) == (502, "100970-502")
    assert away.body["title"] == "BAD_GATEWAY"
    assert away.body["detail"] == "base connection folder: the directory is not there"
    assert back["status"] == "SUCCESS"


async def test_storage_that_goes_away_while_a_run_waits_fails_the_run(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    started = await external.start(audience_id)
    external.folder.rename(external.folder.with_name("gone"))

    await external.load_all()

    run = await external.status(audience_id, started.body["runId"])
    assert run["status"] == "FAILED"
    assert run["details"][0]["message"] == (
        "storage_away: base connection folder: the directory is not there"
    )


async def test_file_that_changes_while_a_run_waits_fails_the_run(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    started = await external.start(audience_id)
    external.put("a.csv", table(ADDRESSES[0]))

    await external.load_all()

    run = await external.status(audience_id, started.body["runId"])
    assert run["details"][0]["message"] == (
        "file_not_found: in/a.csv was changed or taken away meanwhile"
    )
    assert await external.members(IDS) == [False] * 3


async def test_run_is_refused_while_another_is_in_progress(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    first = await external.start(audience_id)

    second = await external.start(audience_id)
    waiting = await external.status(audience_id, first.body["runId"])
    await external.load_all()
    third = await external.start(audience_id)

    assert (second.status, second.body["errorCode"]) == (422, "100960-422")
    assert (waiting["status"], len(waiting["details"])) == ("PROCESSING", 1)
    assert third.status == 200


async def test_guard_rails_say_when_to_come_again(external: External) -> None:
    audience_id = await external.create()
    for _ in range(MAX_RUNS):
        await external.run(audience_id)

    refused = await external.start(audience_id)
    external.rest.clock.ahead_s = int(refused.headers["Retry-After"])
    tomorrow = await external.start(audience_id)

    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 86_401
    assert tomorrow.status == 200


async def test_files_that_are_too_large_together_are_refused(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", b"x" * 60_000)
    external.put("b.csv", b"x" * 60_000)

    refused = await external.start(audience_id)

    assert (refused.status, refused.body["errorCode"]) == (422, "100960-422")


async def test_runs_are_listed_by_page_and_property(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    ids = []
    for _ in range(3):
        ids.append((await external.run(audience_id))["runId"])
        external.rest.clock.ahead_s += 10
    at_s = (await external.status(audience_id, ids[1]))["createdAt"]

    async def listed(query: str) -> list[int]:
        answer = await external.rest.ask("GET", f"{BASE}/{audience_id}/runs?{query}")
        assert answer.status == 200, answer
        return [ids.index(run["runId"]) for run in answer.body["runs"]]

    first = await external.rest.ask("GET", f"{BASE}/{audience_id}/runs?limit=2")
    assert first.body["_page"] == {"start": 0, "limit": 2, "count": 2, "totalCount": 3}
    assert await listed("limit=2") == [2, 1]
    assert await listed("limit=2&start=2") == [0]
    assert await listed("sortBy=ingestionTime") == [0, 1, 2]
    assert await listed("property=status=SUCCESS") == [2, 1, 0]
    assert await listed("property=status=FAILED") == []
    assert await listed("property=status!=FAILED") == [2, 1, 0]
    assert await listed(f"property=ingestionTime%3E={at_s}") == [2, 1]
    assert await listed(f"property=ingestionTime%3C={at_s * 1000}") == [1, 0]
    assert await listed(f"property=ingestionTime%3C{at_s * 1000}") == [0]
    assert await listed(f"property=createdAt%3E={at_s}&property=createdAt%3C{at_s + 10}") == [1]
    assert await listed("sortBy=createdAt&property=status=containsSUCC") == [0, 1, 2]
    assert await listed("sortBy=-createdAt&limit=1") == [2]
    assert await listed("property=name=containsexternal") == [2, 1, 0]
    assert await listed("property=name!=Sample%20external%20audience") == []


def spec_of(external: External, path: str) -> dict[str, str]:
    return {"path": path, "type": "file", "baseConnectionId": external.connection_id}


async def dump(external: External) -> dict[bytes, dict[bytes, bytes]]:
    names = [n async for n in external.redis.scan_iter(match=keys.BUCKET_PREFIX + b"*")]
    return {name: await external.redis.hgetall(name) for name in names}  # type: ignore[misc]


@pytest.mark.parametrize("step", range(0, 24, 3))
async def test_replacement_that_is_killed_at_any_step_ends_as_if_it_had_not_been(
    external: External, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Meanwhile nobody who stays is missing for a moment.
    """
    monkeypatch.setattr(retain_module, "_BUCKETS_A_STEP", 16)
    many = [f"p{n}@example.com" for n in range(80)]
    ids = [id_of_email_hash(hashlib.sha256(address.encode()).hexdigest()) for address in many]
    audience_id = await external.create()
    external.put("a.csv", table(*many))
    await external.run(audience_id)
    external.put("a.csv", table(*many[:60], "new@example.com"))
    await external.start(audience_id, differentialIngestion=False)
    services = external.rest.services
    tools = Tools(services.ledger, external.redis, services.blobs,
                  external.rest.settings.spool_dir, external.rest.clock, 10)  # fmt: skip
    saves = 0

    async def keep(job: Job) -> None:
        nonlocal saves
        saves += 1
        assert (await external.members(ids[:60])) == [True] * 60
        async with services.ledger.begin() as conn:
            await job_leases.save(conn, job, external.rest.clock())
        if saves == step:
            raise Killed

    async with services.ledger.begin() as conn:
        job = await job_leases.claim(conn, external.rest.clock())
    assert job is not None
    with suppress(Killed):
        await run(job, tools, keep)
    async with services.ledger.begin() as conn:
        for running in await job_leases.running(conn, external.rest.clock()):
            await job_leases.save(conn, msgspec.structs.replace(running, state=JobState.QUEUED), 0)
    await external.load_all()

    assert await external.members(ids) == [True] * 60 + [False] * 20
    lost = await dump(external)
    await rebuild(tools, external.rest.settings.expected_ids, settle_s=0)
    assert await dump(external) == lost
