"""
LiveIntent's own client of the Privacy API, as its users run it, against our server.

It is on PyPI as `li-privacy`. It speaks HTTPS alone, sends no bearer token, and
signs with a key that it has made itself.
"""

import asyncio
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from segments.model.identity import Id, id_of_email_hash
from segments.model.record import EVERYONE, Change, OptOut, OptOutAction, Record
from segments.store.meta import prepare
from segments.store.reader import read_meta, read_records
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.edge.test_rest import Api, shop, tls_api
from tests.engines import Engine

__all__ = ["shop", "tls_api"]

DOMAIN, KID = "publisher.example", "key1"
ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"
RESTRICTED = OptOut(EVERYONE, OptOutAction.RESTRICT)
ERASED = OptOut(EVERYONE, OptOutAction.ERASURE)


def ids_of(email: str) -> list[Id]:
    """Return the ids of an address, by each hash that the client sends."""
    raw = email.encode()
    digests = (hashlib.new(name, raw).hexdigest() for name in ("md5", "sha1", "sha256"))
    return [id_of_email_hash(digest) for digest in digests]


@dataclass
class Client:
    """`li-privacy`, set up as it sets itself up, and the store behind our server."""

    api: Api
    store: Engine

    def run(self, *arguments: str, stdin: str = "") -> str:
        environment = {**self.api.environment, "REQUESTS_CA_BUNDLE": self.ca}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "li_privacy.cli", *arguments],
            cwd=self.api.folder, env=environment, input=stdin, text=True, capture_output=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def ca(self) -> str:
        return self.api.environment["CURL_CA_BUNDLE"]

    def set_up(self) -> Path:
        """Let it make its keys, and return the public one."""
        self.run("init", "--domain_name", DOMAIN, "--key_id", KID, stdin="\n\n\n")
        file = self.api.folder / "config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps({**config, "hostname": self.api.url.removeprefix("https://")}))
        return self.api.folder / f"{config['signing_key']}.pub"

    def records(self, email: str) -> list[Record]:
        async def read() -> list[Record]:
            async with connect(self.store.url) as redis:
                return await read_records(redis, await read_meta(redis), ids_of(email))

        return asyncio.run(read())


@pytest.fixture
def client(tls_api: Api, valkey: Engine) -> Client:
    async def add_members() -> None:
        async with connect(valkey.url) as redis:
            writer = Writer(redis, await prepare(redis, 10_000))
            ids = [id_ for email in (ADA, BOB, EVE) for id_ in ids_of(email)]
            await writer.merge(ids, [Change(1, is_add=True)])

    asyncio.run(add_members())
    client = Client(tls_api, valkey)
    public_key = client.set_up()
    tls_api.command("key", "add", "--jwt", DOMAIN, str(public_key), "--kid", KID)
    return client


def test_it_opts_a_user_out_and_deletes_one(client: Client) -> None:
    ping = json.loads(client.run("ping"))
    optout = json.loads(client.run("optout", ADA))
    delete = json.loads(client.run("delete", BOB, "--scope", "EU_PRIVACY"))

    assert ping["reference"]
    assert (optout["read"], optout["imported"], delete["imported"]) == (3, 3, 3)
    assert [record.opt_outs for record in client.records(ADA)] == [(RESTRICTED,)] * 3
    assert all(record.memberships for record in client.records(ADA))
    assert client.records(BOB) == [Record((ERASED,))] * 3
    assert client.records(EVE) == [Record((), client.records(ADA)[0].memberships)] * 3


def test_it_works_through_a_file_whose_lines_all_have_one_name(client: Client) -> None:
    """
    It gives each line the `jti` of the second in which it was started.
    """
    (client.api.folder / "users.txt").write_text(f"{ADA}\n{BOB}\n")

    client.run("optout", "users.txt")

    (report,) = client.api.folder.glob("users.txt.*.tsv")
    rows = [line.split("\t") for line in report.read_text().splitlines()[1:]]
    assert [row[2] for row in rows] == ["True", "True"]
    assert rows[0][1] == rows[1][1]
    for email in (ADA, BOB):
        assert [record.opt_outs for record in client.records(email)] == [(RESTRICTED,)] * 3


def test_its_key_is_no_good_once_removed(client: Client) -> None:
    client.api.command("key", "remove", "--jwt", DOMAIN, KID)

    said = client.run("optout", ADA)

    assert "ERROR" in said
    assert '"errorCode":"INVALID_JWT"' in said
    assert client.records(ADA)[0].opt_outs == ()


def test_its_retry_is_answered_as_its_first_try(client: Client) -> None:
    first, second = (json.loads(client.run("optout", ADA)) for _ in range(2))

    assert (second["read"], second["imported"]) == (first["read"], first["imported"]) == (3, 3)
    assert [record.opt_outs for record in client.records(ADA)] == [(RESTRICTED,)] * 3
