"""The privacy desk: requests by address, in force, looked up, reported; and no person anywhere."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import md5, sha1, sha256

import pyotp
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.console.typed_ids import ids_of
from segments.ledger.privacy.audit import digest_of, entries
from segments.ledger.tables import data_subject_ids, data_subject_requests
from segments.model.account import Account
from segments.model.identity import id_of_email_hash, id_of_ifa
from segments.model.record import EVERYONE, OptOut, OptOutAction
from segments.model.refusal import Refusal
from segments.model.role import Role
from segments.store.reader import read_meta, read_records
from tests.console import Browser, Served, Shown
from tests.ledger_seed import Seeded

JANE = "Jane@Example.com"
RAW = JANE.lower().encode()
DIGESTS = (md5(RAW).hexdigest(), sha1(RAW).hexdigest(), sha256(RAW).hexdigest())
IDS = [id_of_email_hash(digest) for digest in DIGESTS]
PHONE = "6d92078a-8246-4ba4-ae5b-76104861e7dc"


@asynccontextmanager
async def desk_of(console: Served, account: Account | None = None) -> AsyncIterator[Browser]:
    async with console.staff_of(Role.PRIVACY, account=account) as noor:
        yield noor


async def ask(noor: Browser, action: str, ids: str = JANE, **fields: str) -> Shown:
    await noor.see("/privacy")
    return await noor.send("/privacy", **{"do": "submit", "action": action, "ids": ids, **fields})


async def look_up(noor: Browser, ids: str = JANE) -> Shown:
    await noor.see("/privacy/look-up")
    return await noor.send("/privacy/look-up", ids=ids)


def transaction_of(shown: Shown) -> str:
    found = re.search(r"/privacy/requests/([0-9a-f]{32})", shown.main)
    assert found is not None, shown.said
    return found[1]


async def trail(ledger: AsyncEngine) -> list[tuple[str, str | None, int]]:
    async with ledger.connect() as conn:
        return [
            (row["what"], row.get("actor_name"), len(row["subjects"]))
            async for row in entries(conn)
            if row["what"] != "login"
        ]


async def everything_kept(ledger: AsyncEngine) -> str:
    """All rows of the tables that a request touches, as text."""
    async with ledger.connect() as conn:
        rows = [row async for row in entries(conn)]
        requests = (await conn.execute(select(data_subject_requests))).all()
        ids = (await conn.execute(select(data_subject_ids.c.kind))).all()
    return f"{rows} {requests} {ids}"


async def test_an_address_opts_out_by_each_of_its_hashes(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with desk_of(console) as noor:
        answer = await ask(noor, "RESTRICT", jurisdiction="EU_PRIVACY", reference="DSR-7")
        assert "RESTRICT is in force: the next bid obeys." in answer.said
        assert JANE not in answer.text
        assert "Opt-outs in the last minute, in ids 3 , usual 0" in answer.said
        path = f"/privacy/requests/{transaction_of(answer)}"
        page = await noor.see(path)
        for words in ("In force", "everyone", "EU_PRIVACY", "DSR-7", "e-mail hash, 3 of 3"):
            assert words in page.said
    meta = await read_meta(console.services.redis)
    for record in await read_records(console.services.redis, meta, IDS):
        assert record.opt_outs == (OptOut(EVERYONE, OptOutAction.RESTRICT),)
    who = "staff-privacy"
    assert await trail(ledger) == [("RESTRICT", who, 3), ("read", who, 0)]
    async with ledger.begin() as conn:
        digest = await digest_of(conn, IDS[0], now_s=console.clock())
    kept = await everything_kept(ledger)
    assert digest in kept
    assert "jane" not in kept.lower()


async def test_a_look_up_tells_what_was_asked_and_what_bids_find(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with desk_of(console) as noor:
        empty = await look_up(noor)
        assert "Nothing was ever asked about this person here." in empty.said
        assert empty.said.count("No opt-out") == 3
        # One hash alone: the two others are still shown, and the page says so.
        await ask(noor, "RESTRICT", DIGESTS[2])
        found = await look_up(noor)
        assert found.said.count("No opt-out") == 2
        assert "Line 1: address, as SHA-256 Nothing is shown to any recipient" in found.said
        await ask(noor, "RESTRICT", PHONE, reach=str(seeded.publisher.id))
        device = await look_up(noor, PHONE)
        assert "Not shown : segments of Shop" in device.said
        assert "publisher p" in device.said
    whats = [what for what, _, _ in await trail(ledger)]
    assert whats == ["search", "RESTRICT", "search", "RESTRICT", "search"]


async def test_an_erasure_is_typed_out_and_asks_for_the_code_again(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    await console.member("noor", Role.PRIVACY)
    async with console.browser() as noor:
        secret = await noor.log_in_staff("noor", console.clock())
        console.clock.ahead_s += 301
        answer = await ask(noor, "ERASURE")
        assert "Erase for good?" in answer.said
        assert JANE in answer.text  # for the next step, on this answer alone
        wrong = await ask(noor, "ERASURE", confirm="ERASURE", code="000000")
        assert (wrong.status, "not the code of this moment" in wrong.said) == (422, True)
        assert await trail(ledger) == []
        code = pyotp.TOTP(secret).at(int(console.clock()))
        done = await ask(noor, "ERASURE", confirm="ERASURE", code=code)
        assert "ERASURE is in force" in done.said
    assert await trail(ledger) == [("ERASURE", "noor", 3)]


async def test_a_report_is_made_and_downloaded_with_a_row(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with desk_of(console) as noor:
        taken = await ask(noor, "ACCESS", f"{JANE}\n{PHONE}", reference="DSR-8")
        path = f"/privacy/requests/{transaction_of(taken)}"
        assert "Report under way" in (await noor.see(path)).said
        assert (await noor.send(f"{path}/report")).status == 404
        assert await console.reports.turn() == 1
        page = await noor.see(path)
        assert "device id, 4 of 4" in page.said
        assert "DSR-8" in page.said
        report = await noor.send(f"{path}/report")
        assert report.headers["Content-Disposition"].startswith("attachment")
        assert report.headers["Cache-Control"] == "no-store"
        assert [each["kind"] for each in json.loads(report.text)["identifiers"]] == [
            "email",
            "email",
            "email",
            "ifa",
        ]
        said = (await noor.see("/privacy/trail")).said
    assert [what for what, _, _ in await trail(ledger)] == ["ACCESS", "read", "read", "download"]
    assert "download" in said


async def test_the_trail_is_taken_as_a_file_which_is_in_it(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with desk_of(console) as noor, desk_of(console, seeded.shop) as shops:
        transaction_id = transaction_of(await ask(noor, "RESTRICT"))
        file = await noor.see("/privacy/trail.csv")
        assert file.headers["Content-Disposition"] == 'attachment; filename="privacy-trail.csv"'
        first, *more = csv.DictReader(io.StringIO(file.text))
        assert (first["act"], first["transaction"]) == ("RESTRICT", transaction_id)
        assert (first["name"], first["result"]) == ("staff-privacy", "done")
        assert more == []
        assert "jane" not in file.text.lower()
        chosen = await noor.see("/privacy/trail.csv?what=export")
        assert [row["act"] for row in csv.DictReader(io.StringIO(chosen.text))] == ["export"]
        page = await noor.see("/privacy/trail?what=export&actor=staff")
        assert "/privacy/trail.csv?actor=staff&amp;what=export&amp;result=" in page.text
        of_shop = await shops.see("/privacy/trail.csv")
        assert transaction_id not in of_shop.text
    assert [what for what, _, _ in await trail(ledger)] == ["RESTRICT", *["export"] * 3]
    async with ledger.connect() as conn:
        scopes = [row.get("scope_id") async for row in entries(conn) if row["what"] == "export"]
    assert scopes == [None, None, seeded.shop.id]


async def test_a_check_keeps_nothing(console: Served, seeded: Seeded, ledger: AsyncEngine) -> None:
    async with desk_of(console) as noor:
        answer = await ask(noor, "RESTRICT", do="check")
        assert "with 3 ids of one person. Nothing was kept" in answer.said
        for fields in (
            {"action": "DELETE"},
            {"action": "RESTRICT", "ids": " \n "},
            {"action": "RESTRICT", "ids": f"{JANE}\nhello jane"},
            {"action": "RESTRICT", "jurisdiction": "MARS"},
            {"action": "RESTRICT", "reach": "999"},
            {"action": "RESTRICT", "reference": "for jane@example.com"},
        ):
            refused = await ask(noor, **fields)
            assert refused.status == 422, fields
        assert "Line 2: 10 characters" in (await ask(noor, "RESTRICT", f"{JANE}\nhello jane")).said
    assert await trail(ledger) == []


async def test_a_desk_of_an_account_reaches_no_further(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with desk_of(console) as everybodys:
        other = transaction_of(await ask(everybodys, "RESTRICT"))
    async with desk_of(console, seeded.shop) as noor:
        page = await noor.see("/privacy")
        assert "All that Shop reaches" in page.text
        assert "Promises" not in page.said
        assert "agency" not in page.main
        assert (await ask(noor, "RESTRICT", reach=str(seeded.agency.id))).status == 422
        assert (await noor.see(f"/privacy/requests/{other}")).status == 404
        assert (await noor.send(f"/privacy/requests/{other}/report")).status == 404
        said = (await look_up(noor)).said
        assert "Nothing was ever asked" in said
        assert said.count("No opt-out") == 3  # others' opt-outs are not its to know
        answer = await ask(noor, "RESTRICT")
        assert "In force" in (await noor.see(f"/privacy/requests/{transaction_of(answer)}")).said
        trail_of_desk = (await noor.see("/privacy/trail")).main
        assert other not in trail_of_desk
        assert transaction_of(answer) in trail_of_desk
    async with ledger.connect() as conn:
        scopes = list(await conn.scalars(select(data_subject_requests.c.account_id)))
    assert scopes == [None, seeded.shop.id]


def test_lines_become_ids() -> None:
    typed = ids_of(f" {JANE} \n\nemail:{JANE.upper()}\n{PHONE}\nduid:a@b\n{DIGESTS[0].upper()}")
    assert [each.subject.id for each in typed][:4] == [*IDS, id_of_ifa(PHONE)]
    assert [each.subject.tail for each in typed][:3] == [
        bytes.fromhex(digest)[16:] for digest in DIGESTS
    ]
    assert len(typed) == 5
    for wrong in ("", "jane", "@", "a b@c", "x" * 400 + "@example.com", "\udcff@example.com"):
        with pytest.raises(Refusal) as refused:
            ids_of(wrong)
        assert "example" not in str(refused.value)
