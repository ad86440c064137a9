"""What pages show and do: one's own, as text, and with a row in the trail for each act."""

import re
import secrets
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.acts import uploads as acts_uploads
from segments.cli import ingest as cli
from segments.console.formats import day as day_in_words
from segments.console.pages.deliveries import DOOR_TO_WORD
from segments.doors.external_audience import runs
from segments.doors.live_audience import rules
from segments.ingest import uploaded_file
from segments.ledger import audiences, job_audiences, jobs, processes, recipients, uploads
from segments.ledger.live_audience import deliveries
from segments.ledger.privacy.audit import entries
from segments.ledger.processes import ProcessKind
from segments.ledger.tables import audience_counts as counts_table
from segments.ledger.tables import audiences as audiences_table
from segments.ledger.tables import jobs as jobs_table
from segments.model.identity import Id, IdentifierKind, id_of_email_hash
from segments.model.job import BadLine, BadLineReason, Job, JobState, Planned, Report
from segments.model.order import Order, SegmentAction, SegmentOrder
from segments.model.record import OptOutAction, began_at_s, day_of
from segments.model.role import Role
from segments.projection.opt_outs import record_opt_out
from tests.console import Served
from tests.ledger_seed import NOW_S, Seeded

HOSTILE = "<b onclick=alert(1)>&amp;\u202eevil</b>" + "x" * 200
BRAKE = "It would remove 971 of 1000 members"


async def delivery(
    ledger: AsyncEngine,
    seeded: Seeded,
    state: JobState,
    *,
    name: str = "file.txt",
    action: SegmentAction = SegmentAction.REMOVE,
    **report: Any,
) -> Job:
    """A delivery of the shop in some state."""
    shoes = seeded.shoes
    segment = SegmentOrder(shoes.segment_id, shoes.name, action, shoes.id)
    order = Order((segment,), hash_type="sha2")
    async with ledger.begin() as conn:
        job = await jobs.submit(
            conn,
            door="audience api",
            partner_id=seeded.shop.id,
            owner_id=seeded.shop.id,
            order=order,
            blob="",
            sha256=name,
            file_name=name,
            now_s=NOW_S,
        )
        job = replace(job, state=state, report=Report(**report))
        await jobs.rewrite(conn, job)
        if state is JobState.FAILED:
            error = "no_valid_record: 3 lines look like plain addresses"
            await conn.execute(
                update(jobs_table).where(jobs_table.c.id == job.id).values(error=error)
            )
    return job


async def count(
    ledger: AsyncEngine, seeded: Seeded, day: int, members: int, *, ending: int | None = None
) -> None:
    """A count of the census; `ending` on the third day from then, a half if not said."""
    row = {
        "audience_id": seeded.shoes.id,
        "day": day,
        "counted_at_s": began_at_s(day),
        "members": members,
        "opted_out": members // 10,
        "ends": {str(day + 3): members // 2 if ending is None else ending},
    }
    async with ledger.begin() as conn:
        await conn.execute(insert(counts_table).values(row))


async def whats(ledger: AsyncEngine) -> list[tuple[str, str, str]]:
    """The acts of the trail, but for logins."""
    async with ledger.connect() as conn:
        return [
            (row["actor"], row["what"], row["target"])
            async for row in entries(conn)
            if row["what"] != "login"
        ]


async def test_anothers_page_is_no_page(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    job = await delivery(ledger, seeded, JobState.DONE)
    async with console.user_of(seeded.agency) as agency:
        nowhere = await agency.see("/nowhere")
        assert nowhere.status == 404
        for path in (
            f"/deliveries/{job.transaction_id}",
            f"/deliveries/{job.id}",
            f"/audiences/{seeded.shoes.id}",
            "/audiences/999999999999999999",
        ):
            answer = await agency.see(path)
            assert (answer.status, answer.main) == (404, nowhere.main), path
        for act in ("rename", "ttl", "activate", "deactivate", "delete"):
            answer = await agency.send(f"/audiences/{seeded.shoes.id}/{act}", name="Shoes")
            assert (answer.status, answer.main) == (404, nowhere.main), act
        assert "Hats" in (await agency.see("/audiences")).said  # its sub account's
        assert (await agency.see(f"/audiences/{seeded.hats.id}")).status == 200
    assert await whats(ledger) == []


async def test_a_number_that_no_ledger_has_names_no_audience(
    console: Served, seeded: Seeded
) -> None:
    async with console.user_of(seeded.shop) as shop:
        for path in ("/deliveries", "/deliveries.csv", "/upload"):
            for number in ("9" * 19, "9" * 5_000, "-1", "\u0661"):
                shown = await shop.see(path, params={"audience": number})
                assert shown.status == 200, (path, number)


async def test_a_hostile_name_is_text(console: Served, seeded: Seeded, ledger: AsyncEngine) -> None:
    job = await delivery(ledger, seeded, JobState.QUEUED, name=HOSTILE)
    async with ledger.begin() as conn:
        await conn.execute(update(audiences_table).values(name=HOSTILE))  # as if it had got in
    async with console.user_of(seeded.shop) as shop, console.staff_of(Role.OPERATOR) as ada:
        pages = [
            await shop.see("/deliveries"),
            await shop.see(f"/deliveries/{job.transaction_id}"),
            await shop.see("/audiences"),
            await shop.see(f"/audiences/{seeded.shoes.id}"),
            await ada.see("/ops"),
            await ada.see("/ops/deliveries"),
        ]
    for page in pages:
        assert page.status == 200
        assert "<b onclick" not in page.text
        assert "&lt;b onclick=alert(1)&gt;&amp;amp;" in page.text


async def test_a_partner_reads_what_a_file_alone_decides(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    counts: dict[str, Any] = {
        "added": 7001,
        "renewed": 7002,
        "removed": 7003,
        "unchanged": 7004,
        "refused": 7005,
    }
    job = await delivery(
        ledger,
        seeded,
        JobState.DONE,
        rows=100,
        valid=97,
        bad=3,
        written=97,
        duplicates=2,
        bad_lines=(BadLine(17, BadLineReason.EMAIL_ADDRESS),),
        bad_by_reason={BadLineReason.EMAIL_ADDRESS: 3},
        **counts,
    )
    async with console.user_of(seeded.shop) as shop, console.staff_of(Role.OPERATOR) as ada:
        page = await shop.see(f"/deliveries/{job.transaction_id}")
        exact = await ada.see(f"/ops/deliveries/{job.transaction_id}")
    assert "Lines in the file 100" in page.said
    assert "Persons it named 95" in page.said
    assert "looks like an e-mail address: send its SHA-256" in page.said
    for number in counts.values():
        assert f'value="{number}"' not in page.text
        assert f'value="{number}"' in exact.text


async def test_members_are_told_in_hundreds_and_few_of_them_not_at_all(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    today = day_of(console.clock())
    at = f"/audiences/{seeded.shoes.id}"

    async with console.user_of(seeded.shop) as shop:
        assert "not counted yet" in (await shop.see(at)).said
        await count(ledger, seeded, today - 2, 17)
        assert "under 1 000" in (await shop.see("/audiences")).said
        await count(ledger, seeded, today - 1, 123_456)
        for path in (at, "/audiences"):
            page = await shop.see(path)
            assert 'value="123456"' not in page.text
            assert re.search(r'value="123[45]00"', page.text), path
        page = await shop.see(at)
        assert re.search(r'value="6[12]000"', page.text)  # end in 7 days
        assert re.search(r"Opted out 10(\.\d)? %", page.said)
        assert 'value="17"' not in page.text  # the day before


async def test_the_list_tells_what_30_days_changed_and_what_ends_soon(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    today = day_of(console.clock())
    for days_ago, members in ((29, 60_000), (20, 61_000), (10, 56_000), (1, 58_000)):
        await count(ledger, seeded, today - days_ago, members, ending=40_500)

    async with console.user_of(seeded.shop) as shop:
        page = await shop.see("/audiences")
        assert "+ 3 000 − 5 000" in page.said
        assert re.search("4[01] 000 in 7 d", page.said)
        assert 'class="spark"' in page.text
        assert "Members as counted at" in page.said
        # More than a half of the members.
        assert re.search("Shoes loses 4[01] 000 of its 58 000 members", page.said)
        assert "All 1 Active 1 Deactivated 0 Deleted 0" in page.said


async def test_the_worst_trouble_of_a_list_is_on_top(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with console.user_of(seeded.shop) as shop:
        assert 'class="note warn"' not in (await shop.see("/audiences")).text
        for state, told in (
            (JobState.HELD, "Shoes : its last file is held, and an operator has to let it go on."),
            (JobState.FAILED, "Shoes : its last file failed."),
        ):
            job = await delivery(ledger, seeded, state, name=state, held_because=BRAKE)
            async with ledger.begin() as conn:
                planned = Planned(str(job.id), SegmentAction.ADD, seeded.shoes.id)
                await job_audiences.note(conn, job.id, [planned])
            assert told in (await shop.see("/audiences")).said
        async with ledger.begin() as conn:
            await conn.execute(update(audiences_table).values(state="deactivated"))
        assert 'class="note warn"' not in (await shop.see("/audiences")).text


async def test_an_audience_is_found_by_the_id_that_its_owner_gave_it(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with ledger.begin() as conn:
        await audiences.add_audience(
            conn, seeded.shop, seeded.shop, "Boots", external_id="crm-4711", now_s=1
        )
        await audiences.add_audience(
            conn, seeded.sub, seeded.agency, "Caps", external_id="crm-4711", now_s=1
        )
    async with console.user_of(seeded.shop) as shop:
        page = await shop.see("/audiences?q=crm-4711")
        assert "None of 2 is like this" in (await shop.see("/audiences?q=crm-4712")).said
    assert ("Boots" in page.said, "Shoes" in page.main, "Caps" in page.said) == (True, False, False)


async def test_a_delivery_says_how_each_step_went_and_what_it_left(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    day = day_of(console.clock())
    await count(ledger, seeded, day, 123_456)
    planned = Planned("123", SegmentAction.ADD, seeded.shoes.id, day + 30)
    job = await delivery(
        ledger,
        seeded,
        JobState.DONE,
        action=SegmentAction.ADD,
        size_bytes=27_900_000,
        rows=874_110,
        bad=412,
        rows_per_s=31_000.4,
        read_at_s=NOW_S + 3,
        checked_at_s=NOW_S + 3,
        written_at_s=NOW_S + 31,
        segments=(planned,),
    )
    async with console.user_of(seeded.shop) as shop, console.staff_of(Role.OPERATOR) as ada:
        page = await shop.see(f"/deliveries/{job.transaction_id}")
        exact = await ada.see(f"/ops/deliveries/{job.transaction_id}")
    for said in (
        "27.9 MB",
        "874 110 lines, 412 of them bad",
        "removes nobody: nothing to hold",
        "31 000 rows/s",
        f"Shoes 123 adds {day_in_words(began_at_s(day + 30)).striptags()} 123 ",
    ):
        assert said in page.said, said
    assert 'value="123456"' in exact.text
    assert 'value="123456"' not in page.text


async def test_a_file_that_was_only_announced_waits_in_the_list(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    now_s = console.clock()
    async with ledger.begin() as conn:
        await deliveries.receive(
            conn, seeded.shop, "described.txt", {}, transaction_id="7" * 16, now_s=now_s
        )
        for owner, audience, name, until_s in (
            (seeded.shop, seeded.shoes, "presigned.txt", now_s + 60),
            (seeded.shop, seeded.shoes, "expired.txt", now_s - 60),
            (seeded.sub, seeded.hats, "of-sub.txt", now_s + 60),
        ):
            await uploads.add_upload(
                conn,
                owner,
                audience,
                file_name=name,
                action=SegmentAction.ADD,
                hash_type="sha2",
                now_s=now_s,
                expires_at_s=until_s,
            )
    async with (
        console.user_of(seeded.shop) as shop,
        console.user_of(seeded.agency) as agency,
        console.staff_of(Role.OPERATOR) as ada,
    ):
        own = (await shop.see("/deliveries")).said
        assert "Waits for its file described.txt Its description has arrived" in own
        assert "Waits for its file presigned.txt A URL takes this file until" in own
        assert ("expired.txt" in own, "of-sub.txt" in own) == (False, False)
        assert "described.txt" not in (await shop.see("/deliveries?state=done")).said
        assert "of-sub.txt" in (await agency.see("/deliveries")).said
        assert "described.txt" in (await ada.see("/ops/deliveries")).said


def test_every_door_has_a_word() -> None:
    doors = {acts_uploads.DOOR, cli.DOOR, rules.DOOR, runs.DOOR, uploaded_file.DOOR}
    assert set(DOOR_TO_WORD) == doors


async def test_a_failed_file_says_what_to_do(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    await delivery(ledger, seeded, JobState.FAILED)
    async with console.user_of(seeded.shop) as shop:
        page = await shop.see("/deliveries")
    assert "3 lines look like plain addresses. Send one hash a line" in page.said


async def test_an_operator_releases_a_held_file_and_a_partner_never(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    job = await delivery(ledger, seeded, JobState.HELD, held_because=BRAKE)
    async with console.user_of(seeded.shop) as shop:
        page = await shop.see(f"/deliveries/{job.transaction_id}")
        assert "an operator has to let it go on" in page.said
        assert "971" not in page.text
        assert "Release" not in page.text
        answer = await shop.send(f"/ops/deliveries/{job.transaction_id}/release")
        assert answer.status == 403
    async with console.staff_of(Role.OPERATOR) as ada:
        assert BRAKE in (await ada.see("/ops")).said
        at = f"/ops/deliveries/{job.transaction_id}"
        assert 'id="ask-release"' in (await ada.see(f"{at}?ask=release")).text
        done = await ada.send(f"{at}/release", reason="as agreed")
        assert done.location == f"{at}?done=released"
        assert (await ada.send(f"{at}/refuse", reason="no")).status == 409
        assert "Nothing needs you" in (await ada.see("/ops")).said
    async with ledger.connect() as conn:
        rows = [row async for row in entries(conn)]
    (row,) = (row for row in rows if row["what"] == "job release")
    assert (row["actor"], row["actor_name"]) == ("staff", "staff-operator")
    assert row["detail"]["reason"] == "as agreed"


async def test_after_five_minutes_a_release_asks_for_the_code_again(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    job = await delivery(ledger, seeded, JobState.HELD, held_because=BRAKE)
    at = f"/ops/deliveries/{job.transaction_id}"
    async with console.staff_of(Role.OPERATOR) as ada:
        console.clock.ahead_s += 301
        assert 'name="code"' in (await ada.see(at)).text
        refused = await ada.send(f"{at}/release", reason="x", code="000000")
        assert (refused.status, "Nothing was changed" in refused.said) == (403, True)
    async with ledger.connect() as conn:
        kept = await jobs.job(conn, job.id)
    assert kept is not None
    assert kept.state is JobState.HELD


async def test_a_partner_acts_on_its_audience_and_the_trail_says_so(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    at = f"/audiences/{seeded.shoes.id}"
    async with console.user_of(seeded.shop) as shop:
        assert (await shop.send(f"{at}/rename", name="Boots")).location == f"{at}?done=saved"
        assert (await shop.send(f"{at}/ttl", ttl="30")).status == 303
        assert (await shop.send(f"{at}/ttl", ttl="many")).status == 409
        assert (await shop.send(f"{at}/deactivate")).location == f"{at}?done=deactivated"
        assert "Deactivated" in (await shop.see(at)).said
        assert (await shop.send(f"{at}/activate")).status == 303
        assert (await shop.send(f"{at}/delete", name="Shoes")).status == 409
        assert (await shop.send(f"{at}/delete", name="Boots")).location == f"{at}?done=deleted"
        made = await shop.send("/audiences/new", name="New", ttl="")
        assert "New" in (await shop.see(made.location)).said
        wrong = await shop.send("/audiences/new", name="New", ttl="0")
        assert (wrong.status, 'aria-describedby="wrong"' in wrong.text) == (422, True)
    target = f"audience {seeded.shoes.id}"
    assert [(actor, what) for actor, what, of in await whats(ledger) if of == target] == [
        ("user", "audience rename"),
        ("user", "audience ttl"),
        ("user", "audience deactivate"),
        ("user", "audience activate"),
        ("user", "audience delete"),
    ]


async def test_an_operator_grants_revokes_and_holds_out(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    at = "/ops/recipients/dsp-a"
    async with console.staff_of(Role.OPERATOR) as ada:
        assert "1 of 2" in (await ada.see("/ops/recipients")).said
        assert (await ada.send(f"{at}/grant", partner="agency")).status == 303
        assert (await ada.send(f"{at}/revoke", partner="shop")).status == 303
        assert (await ada.send(f"{at}/hold-out", percent="2,5")).status == 303
        assert (await ada.send(f"{at}/hold-out", percent="101")).status == 409
        assert (await ada.send(f"{at}/deactivate")).status == 303
        assert (await ada.send("/ops/recipients", name="no name")).status == 422
        added = await ada.send("/ops/recipients", name="dsp-b")
        assert added.location == "/ops/recipients/dsp-b?done=saved"
        assert (await ada.see("/ops/recipients/none")).status == 404
        trail = await ada.see("/ops/audit?what=recipient grant")
        assert "partner: agency" in trail.said
        assert "dsp-b" not in trail.said
    async with ledger.connect() as conn:
        dsp = await recipients.recipient(conn, "dsp-a")
    assert (dsp.partner_ids, dsp.hold_out, dsp.is_active) == ((seeded.agency.id,), 0.025, False)
    assert [what for _, what, _ in await whats(ledger)] == [
        "recipient grant",
        "recipient revoke",
        "recipient hold-out",
        "recipient deactivate",
        "recipient add",
    ]


async def test_an_erasure_near_its_24_hours_needs_an_operator(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    job = await delivery(ledger, seeded, JobState.DONE)
    async with ledger.begin() as conn:
        kept = update(jobs_table).where(jobs_table.c.id == job.id).values(blob="kept")
        await conn.execute(kept)
    ids = [(IdentifierKind.EMAIL, id_of_email_hash("a" * 64))]
    await record_opt_out(ledger, console.services.redis, OptOutAction.ERASURE, ids)
    console.clock.ahead_s = 17.6 * 3600
    async with console.staff_of(Role.OPERATOR) as ada:
        assert "Nothing needs you" in (await ada.see("/ops")).said
        console.clock.ahead_s = 18.01 * 3600  # within the session
        page = await ada.see("/ops")
    assert "1 thing needs you" in page.said
    assert "Erased ids in a delivered file for 18 h" in page.said


async def test_a_flood_of_opt_outs_needs_an_operator(console: Served, seeded: Seeded) -> None:
    services = console.services
    async with console.staff_of(Role.OPERATOR) as ada:
        for persons, told in ((1_000, "Nothing needs you"), (1, "1 thing needs you")):
            ids = [(IdentifierKind.EMAIL, Id(secrets.token_bytes(16))) for _ in range(persons)]
            await record_opt_out(services.ledger, services.redis, OptOutAction.RESTRICT, ids)
            page = await ada.see("/ops")
            assert told in page.said
        assert "Opt-outs of 1 001 ids in the last minute" in page.said
        console.clock.ahead_s = 300  # the console's clock stands still, and recording takes a time
        page = await ada.see("/ops")
    assert "Nothing needs you" in page.said
    assert "Alarm above 1 000" in page.said


async def test_times_are_in_the_zone_of_the_visitor_alone(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    job = await delivery(ledger, seeded, JobState.DONE)  # received at midnight, in winter
    at = f"/deliveries/{job.transaction_id}"
    async with console.user_of(seeded.shop) as shop, console.staff_of(Role.OPERATOR) as ada:
        assert "2026-01-01 00:00" in (await shop.see("/deliveries")).said
        refused = await shop.send("/account/time-zone", zone="Europe/Atlantis")
        assert (refused.status, "choose a zone" in refused.said.lower()) == (409, True)
        assert (await shop.send("/account/time-zone", zone="Europe/Berlin")).status == 303
        page = await shop.see("/deliveries")
        assert '<time datetime="2026-01-01T00:00:00Z">2026-01-01 01:00</time>' in page.text
        assert "Times are Europe/Berlin" in page.said
        assert "01:00:00" in (await shop.see(at)).said
        assert "2026-01-01T00:00:00Z" in (await shop.see("/deliveries.csv")).text
        assert "2026-01-01 00:00" in (await ada.see("/ops/deliveries")).said
        assert (await ada.send("/account/time-zone", zone="America/New_York")).status == 303
        assert "2025-12-31 19:00" in (await ada.see("/ops/deliveries")).said
        assert (await ada.send("/account/time-zone", zone="UTC")).status == 303
        assert "2026-01-01 00:00" in (await ada.see("/ops/deliveries")).said
    assert [(actor, what) for actor, what, _ in await whats(ledger) if what != "download"] == [
        ("user", "user time zone"),
        ("staff", "staff time zone"),
        ("staff", "staff time zone"),
    ]


async def test_an_operator_sees_which_processes_run(console: Served, ledger: AsyncEngine) -> None:
    now_s = console.clock()
    async with ledger.begin() as conn:
        for host, at_s in (("good", now_s), ("dead", now_s - 40), ("ill", now_s)):
            number = await processes.join(
                conn, ProcessKind.LOADER, host=host, pid=7, version="0.2.0", now_s=at_s
            )
        await processes.renew(conn, number, "store down", now_s=now_s)
    async with console.staff_of(Role.OPERATOR) as ada:
        page = await ada.see("/ops")
    assert "2 things need you" in page.said
    assert "Not seen Loader on dead , process 7, last seen at" in page.said
    assert "Not ready Loader on ill , process 7 Store down" in page.said
    assert re.search(
        r"Loader good 0\.2\.0, process 7, since \S+ \S+ , seen at \S+ Ready", page.said
    )


@pytest.mark.parametrize("path", ["/deliveries", "/audiences"])
async def test_lists_are_filtered_and_say_so(console: Served, seeded: Seeded, path: str) -> None:
    async with console.user_of(seeded.shop) as shop:
        shown = await shop.see(f"{path}?q=nothing")
        assert re.search(r"None (of \d+ )?is like this", shown.said)
        assert (await shop.see(f"{path}?cursor=typed")).status == 409


async def test_a_held_job_says_how_many_files_wait_behind_it(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    await delivery(ledger, seeded, JobState.QUEUED, name="before.txt")
    await delivery(ledger, seeded, JobState.HELD, name="first.txt", held_because=BRAKE)
    await delivery(ledger, seeded, JobState.DONE, name="done.txt")
    await delivery(ledger, seeded, JobState.HELD, name="second.txt", held_because=BRAKE)
    async with console.staff_of(Role.OPERATOR) as ada, console.user_of(seeded.shop) as shop:
        shown = (await ada.see("/ops")).said
        assert "1 later file of shop waits behind it" in shown
        assert "first.txt of shop, removes Shoes , by API" in shown
        after = await delivery(ledger, seeded, JobState.QUEUED, name="after.txt")
        said = (await ada.see("/ops")).said
        waits = (await shop.see(f"/deliveries/{after.transaction_id}")).said
    assert "It waits for 3 earlier files of the same partner, of which one or more are held:" in (
        waits
    )
    assert "2 later files of shop wait behind it" in said
    assert "1 later file of shop waits behind it" in said


async def test_the_queue_says_how_far_each_file_is(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    running: dict[str, Any] = {"rows": 100, "valid": 100, "written": 61, "rows_per_s": 1.0}
    await delivery(ledger, seeded, JobState.RUNNING, name="now.txt", **running)
    await delivery(ledger, seeded, JobState.QUEUED, name="next.txt")
    async with console.staff_of(Role.OPERATOR) as ada:
        said = (await ada.see("/ops")).said
    assert "now.txt removes Shoes shop 61 of 100 rows, 39 s to go" in said
    assert "next.txt removes Shoes shop received 2026-01-01 00:00" in said


async def test_the_part_that_changed_is_the_same_part_of_the_whole_page(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    job = await delivery(ledger, seeded, JobState.QUEUED)
    async with console.user_of(seeded.shop) as shop, console.staff_of(Role.OPERATOR) as ada:
        for browser, at in (
            (shop, f"/audiences/{seeded.shoes.id}"),
            (shop, "/audiences"),
            (shop, "/deliveries"),
            (ada, f"/ops/deliveries/{job.transaction_id}"),
            (ada, "/ops"),
        ):
            page = await browser.see(at)
            part = await browser.see(at, headers={"HX-Request": "true"})
            assert part.status == 200
            assert part.text in page.text


async def test_what_moves_is_asked_for_again_and_what_rests_is_not(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    job = await delivery(ledger, seeded, JobState.QUEUED)
    asked = {"HX-Request": "true"}
    at = f"/deliveries/{job.transaction_id}"
    async with console.user_of(seeded.shop) as shop:
        page = await shop.see(at)
        url = page.text.partition('hx-get="')[2].partition('"')[0]
        assert (await shop.see(url, headers=asked)).status == 204
        async with ledger.begin() as conn:
            await jobs.rewrite(conn, replace(job, state=JobState.DONE))
        part = await shop.see(url, headers=asked)
        assert part.status == 200
        assert "<html" not in part.text
        assert "hx-get" not in part.text
    async with console.browser() as stranger:
        gone = await stranger.see(url, headers=asked)
        assert (gone.status, gone.headers["HX-Redirect"]) == (401, "/login")
