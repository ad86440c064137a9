"""What a file for a CRM audience is counted as, and what is kept of it."""

import asyncio
import dataclasses
import time
from functools import partial

from segments.ingest.ids_only import AT_MOST_S
from segments.ingest.run import wait_as_ids
from segments.loader.long_waits import look_once
from segments.model.identity import IdentifierKind, id_of_email_hash, id_of_ifa, id_of_phone_hash
from segments.model.job import Job, JobState
from segments.model.record import OptOutAction
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store.seen_filter import remember
from segments.upkeep.originals import see_to_originals
from segments.upkeep.scrub.scrubber import Scrubber
from tests.engines import Engine
from tests.kept_files import kept_files
from tests.segments.doors.crm_audience.crm_world import (
    ADDRESS,
    ALICE,
    BOB,
    CAROL,
    DEVICE,
    FILE,
    PHONE,
    Crm,
    crm,
    csv_of,
    rebuild_from,
    records_of,
    sha256,
    world,
)
from tests.segments.doors.rest.rest_world import hashes, text_of

__all__ = ["crm", "world"]  # fixtures

EVER_S = 1e12


async def test_upload_is_counted_against_what_the_store_knew_before(crm: Crm) -> None:
    world = crm.world
    await world.rest.ask(
        "POST",
        "/realtime/audience/123?type=sha2",
        data=text_of([ALICE, BOB]),
        headers={"Content-Type": "text/plain"},
    )
    services = world.rest.services
    await record_opt_out(
        services.ledger,
        world.redis,
        OptOutAction.RESTRICT,
        [(IdentifierKind.EMAIL, id_of_email_hash(BOB))],
    )
    audience_id = await crm.audience()
    job = await crm.deliver(audience_id, FILE, records=4)
    waiting = await crm.load(audience_id)

    await world.load_all()

    loaded = await crm.load(audience_id)
    assert (waiting["audienceState"], waiting["crmData"]["insightsState"]) == (
        "PROCESSING",
        "PENDING",
    )
    assert (loaded["audienceState"], loaded["audienceStateId"]) == ("READY", 1)
    assert loaded["dataUpdated"] is not None
    crm_data = loaded["crmData"]
    assert (crm_data["insightsState"], crm_data["size"]) == ("READY", 4)
    assert crm_data["history"]["totalEvents"] == 1
    ((at, upload),) = crm_data["history"]["history"].items()
    assert at == upload["created"]
    assert upload == {
        "audienceId": audience_id,
        "mode": "opt-in",
        "totalRows": 4,
        "created": at,
        "dataSet": {
            "EMAIL": {"TOTAL": 4, "UNIQUE": 2, "MATCH": 2, "UMATCH": 1, "NOMATCH": 0},
            "PHONE": {"TOTAL": 2, "UNIQUE": 1, "MATCH": 0, "UMATCH": 0, "NOMATCH": 1},
            "POSTALADDRESS": {"TOTAL": 3, "UNIQUE": 1, "MATCH": 0, "UMATCH": 0, "NOMATCH": 1},
            "AAID": {"TOTAL": 1, "UNIQUE": 1, "MATCH": 0, "UMATCH": 0, "NOMATCH": 1},
        },
        "matchRates": {"EMAIL": 1.0, "PHONE": 0.0, "POSTALADDRESS": 0.0, "AAID": 0.0},
    }
    assert job.state is JobState.QUEUED


async def test_only_what_a_bid_can_hold_becomes_an_id(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)

    await crm.world.load_all()

    ids = [
        id_of_email_hash(ALICE),
        id_of_email_hash(BOB),
        id_of_phone_hash(PHONE),
        id_of_ifa(DEVICE),
        id_of_email_hash(ADDRESS),
        id_of_email_hash(CAROL),
    ]
    assert await crm.members(audience_id, ids) == [True] * 4 + [False] * 2


async def test_what_is_kept_of_a_typed_file_is_its_ids_alone(crm: Crm, settings: Settings) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)

    (job,) = await crm.world.load_all()

    with crm.kept(job).buffered() as kept:
        content = kept.read()
    ids = {content[at : at + 16] for at in range(0, len(content), 16)}
    assert ids == {
        id_of_email_hash(ALICE), id_of_email_hash(BOB), id_of_phone_hash(PHONE), id_of_ifa(DEVICE)
    }  # fmt: skip
    everything = b"".join(path.read_bytes() for path in kept_files(settings.data_dir / "blobs"))
    assert ADDRESS.encode() not in everything
    assert bytes.fromhex(ADDRESS)[:16] not in everything
    assert b"carol@" not in everything


async def test_job_that_is_taken_up_again_goes_on_from_the_ids(
    crm: Crm, settings: Settings
) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)
    loader, stopping = crm.world.loader, asyncio.Event()
    await loader.catch_up()
    job = await loader.claim()
    assert job is not None

    def stop_at_the_ids(running: Job) -> None:
        if running.report.is_ids:
            stopping.set()

    stopped = await loader.run_one(job, stopping, stop_at_the_ids)
    (ended,) = await crm.world.load_all()

    assert (stopped.state, stopped.report.is_ids) == (JobState.QUEUED, True)
    assert (ended.state, ended.report.rows, ended.report.added) == (JobState.DONE, 4, 4)
    kept = kept_files(settings.data_dir / "blobs")
    assert [str(p).endswith(ended.blob) for p in kept] == [True]
    history = (await crm.load(audience_id))["crmData"]["history"]
    assert history["totalEvents"] == 1
    (upload,) = history["history"].values()
    assert upload["dataSet"]["EMAIL"]["MATCH"] == 0


async def test_file_of_one_column_of_hashes_is_e_mail(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, text_of(hashes("alice", "bob", "bob")), records=3)
    await crm.world.load_all()
    await crm.deliver(
        audience_id, text_of(["email", *hashes("bob", "dave", kind="sha256")]), records=2
    )

    await crm.world.load_all()

    crm_data = (await crm.load(audience_id))["crmData"]
    assert crm_data["size"] == 5
    first, second = crm_data["history"]["history"].values()
    assert first["dataSet"] == {
        "EMAIL": {"TOTAL": 3, "UNIQUE": 2, "MATCH": 0, "UMATCH": 0, "NOMATCH": 2}
    }
    assert second["dataSet"] == {
        "EMAIL": {"TOTAL": 2, "UNIQUE": 2, "MATCH": 1, "UMATCH": 1, "NOMATCH": 1}
    }
    assert second["matchRates"] == {"EMAIL": 0.5}


async def test_ids_that_were_only_seen_in_bids_match_where_the_store_remembers_them(
    crm: Crm,
) -> None:
    world = crm.world
    now_s = world.rest.clock()
    dave, erin = sha256("dave@example.com"), sha256("erin@example.com")
    for digest, at_s in ((ALICE, now_s), (BOB, now_s), (dave, now_s - 30 * 86_400)):
        await remember(world.redis, [id_of_email_hash(digest)], at_s)
    await remember(world.redis, [id_of_phone_hash(PHONE)], now_s)
    # Of Bob there is nothing but that he said no.
    await record_opt_out(
        world.rest.services.ledger,
        world.redis,
        OptOutAction.ERASURE,
        [(IdentifierKind.EMAIL, id_of_email_hash(BOB))],
    )
    audience_id = await crm.audience()
    rows = [(ALICE, PHONE), (ALICE, PHONE), (BOB, ""), (dave, ""), (erin, "")]
    await crm.deliver(audience_id, csv_of(*rows, head="EMAIL,PHONE"), records=5)

    await world.load_all()

    ((_, upload),) = (await crm.load(audience_id))["crmData"]["history"]["history"].items()
    assert upload["dataSet"] == {
        "EMAIL": {"TOTAL": 5, "UNIQUE": 4, "MATCH": 3, "UMATCH": 2, "NOMATCH": 1},
        "PHONE": {"TOTAL": 2, "UNIQUE": 1, "MATCH": 1, "UMATCH": 1, "NOMATCH": 0},
    }


async def test_id_that_the_store_knows_and_that_was_seen_matches_once(crm: Crm) -> None:
    first = await crm.audience("First")
    await crm.deliver(first, text_of([ALICE, BOB]), records=2)
    await crm.world.load_all()
    carol = sha256("carol@example.com")
    seen = [id_of_email_hash(digest) for digest in (ALICE, carol)]
    await remember(crm.world.redis, seen, crm.world.rest.clock())
    second = await crm.audience("Second")
    await crm.deliver(second, text_of([ALICE, BOB, carol, sha256("erin")]), records=4)

    await crm.world.load_all()

    ((_, upload),) = (await crm.load(second))["crmData"]["history"]["history"].items()
    assert upload["dataSet"] == {
        "EMAIL": {"TOTAL": 4, "UNIQUE": 4, "MATCH": 3, "UMATCH": 3, "NOMATCH": 1}
    }


async def test_opt_out_upload_removes_and_is_told_as_such(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)
    await crm.deliver(audience_id, csv_of((PHONE,), head="PHONE"), records=1, action="remove")

    await crm.world.load_all()

    assert await crm.members(audience_id, [id_of_phone_hash(PHONE), id_of_ifa(DEVICE)]) == [
        False,
        True,
    ]
    loaded = (await crm.load(audience_id))["crmData"]
    assert [u["mode"] for u in loaded["history"]["history"].values()] == ["opt-in", "opt-out"]
    assert loaded["size"] == 4


async def test_upload_of_nothing_that_is_an_id_is_counted_all_the_same(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, csv_of((ADDRESS,), head="POSTALADDRESS"), records=1)

    (job,) = await crm.world.load_all()

    assert job.state is JobState.DONE
    assert (await crm.load(audience_id))["crmData"]["size"] == 1


async def test_typed_file_that_fails_is_kept_for_corrected_metadata_alone(
    crm: Crm, settings: Settings
) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=99)
    await crm.world.load_all()
    kept_s = settings.loader_options.refused_file_s
    tools = crm.world.loader._tools

    early = await see_to_originals(tools, kept_s)
    tomorrow = dataclasses.replace(tools, now_s=lambda: time.time() + kept_s)
    late = await see_to_originals(tomorrow, kept_s)

    assert (early.deleted, late.deleted) == (0, 1)
    assert not kept_files(settings.data_dir / "blobs")


async def test_typed_file_that_has_no_id_is_not_kept(crm: Crm, settings: Settings) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, csv_of(("carol@example.com", "", "", "")), records=1)

    (job,) = await crm.world.load_all()

    assert (job.state, job.blob) == (JobState.FAILED, "")
    assert not kept_files(settings.data_dir / "blobs")
    loaded = await crm.load(audience_id)
    assert loaded["audienceState"] == "NODATA"
    assert loaded["crmData"]["history"] == {"totalEvents": 0, "history": {}}


async def test_upload_that_failed_is_seen_by_its_customer_with_what_to_do(crm: Crm) -> None:
    audience_id, other = await crm.audience(), await crm.audience("Other")
    await crm.deliver(audience_id, FILE, records=99, action="remove")
    await crm.deliver(audience_id, csv_of(("carol@example.com", "", "", "")), records=1)
    await crm.world.load_all()

    loaded = await crm.load(audience_id)

    latest, first = loaded["crmData"]["failedUploads"]
    assert (latest["fileName"], latest["mode"]) == ("people.csv", "opt-in")
    assert latest["details"]["reason"] == "no_valid_record"
    assert latest["details"]["lines"]["bad_lines"] == {"not_its_type": [2]}
    assert (first["mode"], first["details"]["reason"]) == ("opt-out", "record_count_mismatch")
    assert first["details"]["what_to_do"]
    assert loaded["crmData"]["insightsState"] == "READY"
    assert (await crm.load(other))["crmData"] is None


async def waited_for_days(crm: Crm) -> int:
    """Have the loader look at what has waited for so long that nothing but ids may be kept."""
    tools = dataclasses.replace(crm.world.loader._tools, now_s=lambda: time.time() + AT_MOST_S + 60)
    carry = partial(crm.world.loader.run_one, carry=wait_as_ids)
    return await look_once(tools, carry, asyncio.Event())


async def test_typed_file_that_waits_for_days_is_counted_before_it_becomes_ids(
    crm: Crm, settings: Settings
) -> None:
    audience_id = await crm.audience()
    job = await crm.deliver(audience_id, FILE, records=4)

    looked = await waited_for_days(crm)
    kept = [p.read_bytes() for p in kept_files(settings.data_dir / "blobs")]
    (done,) = await crm.world.load_all()

    assert (looked, [len(content) for content in kept]) == (1, [6 * 16])
    assert (done.id, done.state, done.report.rows, done.report.added) == (
        job.id, JobState.DONE, 4, 4
    )  # fmt: skip
    ((_, upload),) = (await crm.load(audience_id))["crmData"]["history"]["history"].items()
    assert (upload["totalRows"], upload["dataSet"]) == (
        4,
        {
            "EMAIL": {"TOTAL": 4, "UNIQUE": 2, "MATCH": 0, "UMATCH": 0, "NOMATCH": 2},
            "PHONE": {"TOTAL": 2, "UNIQUE": 1, "MATCH": 0, "UMATCH": 0, "NOMATCH": 1},
            "POSTALADDRESS": {"TOTAL": 3, "UNIQUE": 1, "MATCH": 0, "UMATCH": 0, "NOMATCH": 1},
            "AAID": {"TOTAL": 1, "UNIQUE": 1, "MATCH": 0, "UMATCH": 0, "NOMATCH": 1},
        },
    )


async def test_typed_file_that_waits_for_days_for_the_store_matches_nothing(
    crm: Crm, valkey: Engine
) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)
    valkey.stop()
    looked = await waited_for_days(crm)
    valkey.start()

    (done,) = await crm.world.load_all()

    assert (looked, done.state, done.report.added) == (1, JobState.DONE, 4)
    ((_, upload),) = (await crm.load(audience_id))["crmData"]["history"]["history"].items()
    assert upload["dataSet"]["EMAIL"] == {
        "TOTAL": 4, "UNIQUE": 2, "MATCH": 0, "UMATCH": 0, "NOMATCH": 2
    }  # fmt: skip


async def test_file_of_hashes_that_waits_for_days_is_counted_in_its_turn(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, text_of([ALICE, BOB, BOB, "carol@example.com"]), records=4)
    await waited_for_days(crm)

    (done,) = await crm.world.load_all()

    assert (done.state, done.report.rows) == (JobState.DONE, 4)
    ((_, upload),) = (await crm.load(audience_id))["crmData"]["history"]["history"].items()
    assert (upload["totalRows"], upload["dataSet"]["EMAIL"]["TOTAL"]) == (4, 4)
    assert upload["dataSet"]["EMAIL"]["UNIQUE"] == 2


async def test_typed_columns_are_for_audiences_of_this_door_alone(crm: Crm) -> None:
    """
    To any other it is a table of which several columns could be the hashes.
    """
    await crm.deliver(123, FILE, records=4)

    (job,) = await crm.world.load_all()

    assert job.stop is not None
    assert job.stop.value == "unreadable_file"


async def test_chunk_is_counted_as_a_file_is(crm: Crm) -> None:
    audience_id = await crm.audience()

    answer = await crm.world.rest.ask(
        "POST",
        f"/realtime/audience/{audience_id}?type=sha2",
        data=text_of([ALICE]),
        headers={"Content-Type": "text/plain"},
    )
    await crm.world.load_all()

    assert (answer.status, answer.body["output"]["status"]) == (202, "waiting")
    assert (await crm.load(audience_id))["crmData"]["size"] == 1
    assert await crm.members(audience_id, [id_of_email_hash(ALICE)]) == [True]


async def test_presigned_upload_takes_typed_columns_too(crm: Crm) -> None:
    audience_id = await crm.audience()
    rest = crm.world.rest
    form = {"filename": "crm.csv", "action": "add", "type": "sha2"}
    presigned = await rest.ask("POST", f"/audience/upload/{audience_id}", form)

    put = await rest.ask("PUT", presigned.body["output"]["presignedURI"], data=FILE)
    await crm.world.load_all()

    assert put.status == 200
    assert await crm.members(audience_id, [id_of_phone_hash(PHONE)]) == [True]


async def test_rebuild_makes_the_same_store_from_the_ids(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)
    await crm.world.load_all()
    before = await records_of(crm)

    await rebuild_from(crm)

    assert await records_of(crm) == before
    assert before


async def test_erased_person_is_scrubbed_from_the_ids_that_are_kept(crm: Crm) -> None:
    """
    While the file waits it is left to its loader: what is kept of it is not there yet.
    """
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)
    services = crm.world.rest.services
    alice, phone = id_of_email_hash(ALICE), id_of_phone_hash(PHONE)
    erased = [(IdentifierKind.EMAIL, alice), (IdentifierKind.PHONE, phone)]
    await record_opt_out(services.ledger, crm.world.redis, OptOutAction.ERASURE, erased)
    scrubber = Scrubber(
        services.ledger, services.blobs, crm.world.rest.settings.spool_dir, services.now_s
    )

    waiting = await scrubber.scrub(EVER_S)
    await crm.world.load_all()
    lost = await records_of(crm)
    kept_before = await _blobs(crm)
    done = await scrubber.scrub(EVER_S)
    kept = await _blobs(crm)
    await rebuild_from(crm)

    assert (waiting.at_work, waiting.rewritten) == (1, 0)
    assert bytes(alice) in kept_before
    assert bytes(phone) in kept_before
    assert (done.rewritten, done.lines) == (1, 3)  # the phone stands there twice
    assert bytes(alice) not in kept
    assert bytes(phone) not in kept
    assert bytes(id_of_email_hash(BOB)) in kept
    assert await records_of(crm) == lost
    assert (await scrubber.scrub(EVER_S)).rewritten == 0


async def _blobs(crm: Crm) -> bytes:
    blobs = crm.world.rest.services.blobs
    return b"".join([blobs.get(name).read() for name in await blobs.names()])
