import asyncio
from hashlib import sha256
from pathlib import Path

import pytest

from segments.model.catalog import RecipientEntry
from segments.store.reader import read_catalog
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.refusals import REFUSALS
from tests.segments.cli.conftest import Command


def published(store: Engine) -> RecipientEntry:
    async def read() -> RecipientEntry:
        async with connect(store.url) as client:
            return (await read_catalog(client)).recipients[0]

    return asyncio.run(read())


def test_token_is_shown_once_and_its_hash_alone_is_kept_and_published(
    ok: Command, store: Engine, tmp_path: Path
) -> None:
    ok("recipient", "add", "dsp-a")
    assert published(store).tokens is None

    said = ok("recipient", "token", "issue", "dsp-a")
    token = said.stdout.strip()

    assert said.stderr == "token 1 of recipient dsp-a\n"
    assert token not in ok("recipient", "token", "list", "dsp-a").stdout
    for file in (tmp_path / "data").iterdir():
        assert token.encode() not in file.read_bytes()
    assert published(store).tokens == (sha256(token.encode()).hexdigest(),)


def test_tokens_are_listed_and_what_is_needed_is_published(ok: Command, store: Engine) -> None:
    ok("recipient", "add", "dsp-a")
    ok("recipient", "token", "issue", "dsp-a", "--not-needed-yet")
    early = published(store).tokens
    ok("recipient", "token", "rotate", "dsp-a")
    ok("recipient", "token", "rotate", "dsp-a")
    ok("recipient", "token", "need", "dsp-a")
    rows = [
        line.split("\t") for line in ok("recipient", "token", "list", "dsp-a").stdout.splitlines()
    ]
    needed = published(store).tokens
    listed = ok("recipient", "list").stdout
    ok("recipient", "token", "waive", "dsp-a")

    assert early is None
    assert [(row[0], row[2]) for row in rows] == [("1", "revoked"), ("2", "good"), ("3", "good")]
    assert needed is not None
    assert len(needed) == 2
    assert listed == "dsp-a\t0\tactive\t-\tneeded\t-\n"
    assert published(store).tokens is None


def test_token_that_could_only_be_recorded_is_shown_all_the_same(
    ok: Command, run: Command, store: Engine
) -> None:
    """It is in the ledger, so it would be lost; and given again, the command would draw another."""
    ok("recipient", "add", "dsp-a")
    with REFUSALS["OOM"](store):
        said = run("recipient", "token", "issue", "dsp-a")

    assert said.exit_code == 3
    assert said.stdout.startswith("rtbr_")
    assert "recorded: token 1 of recipient dsp-a. Not in force yet" in said.stderr
    assert "once more" not in said.stderr
    assert "rtbr_" not in said.stderr


def test_what_is_not_there_is_one_line(ok: Command, run: Command) -> None:
    ok("recipient", "add", "dsp-a")
    refused = [
        run("recipient", "token", "issue", "nobody"),
        run("recipient", "token", "revoke", "dsp-a", "7"),
    ]

    assert [each.exit_code for each in refused] == [1, 1]
    assert [each.output for each in refused] == [
        "Error: there is no recipient nobody\n",
        "Error: recipient dsp-a has no token 7\n",
    ]


def test_recipient_is_bound_to_names_of_certificates_and_freed(ok: Command, store: Engine) -> None:
    ok("recipient", "add", "dsp-a")
    said = ok(
        *("recipient", "certificate", "dsp-a", "--san", "DNS:Bidder.example"),
        *("--san", "uri:spiffe://Example/bidder", "--subject", "CN=bidder,O=Example"),
    ).stdout
    names = published(store).certificates
    listed = ok("recipient", "list").stdout
    ok("recipient", "certificate", "dsp-a", "--none")

    assert names == (
        "dns:bidder.example", "subject:CN=bidder,O=Example", "uri:spiffe://Example/bidder",
    )  # fmt: skip
    assert said == f"recipient dsp-a needs a certificate of {' or '.join(names)}\n"
    assert listed.split("\t")[-1].strip() == ",".join(names)
    assert published(store).certificates is None


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="nothing"),
        pytest.param(("--none", "--san", "dns:a"), id="both"),
        pytest.param(("--san", "bidder.example"), id="no kind"),
        pytest.param(("--san", "ip:10.0.0.1"), id="another kind"),
        pytest.param(("--san", "dns: "), id="no name"),
        pytest.param(("--subject", ""), id="an empty subject"),
        pytest.param(("--subject", "bidder"), id="no subject"),
    ],
)
def test_what_is_no_name_of_a_certificate_is_refused_and_binds_nothing(
    ok: Command, run: Command, store: Engine, options: tuple[str, ...]
) -> None:
    ok("recipient", "add", "dsp-a")

    assert run("recipient", "certificate", "dsp-a", *options).exit_code == 2
    assert published(store).certificates is None
