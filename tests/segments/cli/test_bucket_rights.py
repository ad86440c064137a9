"""A bucket that gives the service's user the rights of `deploy/aws/service.json`, or one fewer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from segments.files.blobs import Blobs
from segments.files.obstore_errors import RightMissing
from tests.engines import Engine
from tests.s3 import become, policy, user_with
from tests.segments.cli.conftest import Command
from tests.segments.cli.test_s3_away import delivered
from tests.segments.ingest.deliveries import PARTNER_ID, email_hashes

BUCKET, PREFIX = "rights", "segments"
HASHES = email_hashes(40)


def admin(s3: str) -> Any:
    """A client with every right."""
    return boto3.client(
        "s3", endpoint_url=s3, region_name="us-east-1", aws_access_key_id="AKID",
        aws_secret_access_key="secret",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _bucket(s3: str, ok: Command, store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    del store
    admin(s3).create_bucket(Bucket=BUCKET)
    monkeypatch.setenv("SEGMENTS_BLOB_URL", f"s3://{BUCKET}/{PREFIX}/files")
    ok("account", "add", "--kind", "advertiser", "--id", PARTNER_ID, "--name", "Partner")


def without(right: str) -> dict[str, Any]:
    """The service's policy, without a right."""
    document = policy("service", BUCKET, PREFIX)
    for statement in document["Statement"]:
        actions = statement["Action"]
        given = actions if isinstance(actions, list) else [actions]
        statement["Action"] = [action for action in given if action != right] or ["s3:Nothing"]
    assert document != policy("service", BUCKET, PREFIX), f"{right} is documented"
    return document


BACKUP = ("backup", f"s3://{BUCKET}/{PREFIX}/backup")


def test_documented_rights_are_enough_for_files_and_backups(
    s3: str, ok: Command, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, user_with(s3, policy("service", BUCKET, PREFIX)))

    ok(*delivered(tmp_path, HASHES))
    ok("erase", f"email:{HASHES[0]}")
    scrubbed = ok("scrub").output
    backed_up = ok(*BACKUP).output
    ok("sweep")
    ok("rebuild", "--yes")
    examined = run("doctor").output

    assert "scrubbed: 1 lines taken out of 1 files" in scrubbed
    assert "backup" in backed_up
    assert "ok    files: all 1 that a rebuild would read are there" in examined


@pytest.mark.parametrize(
    ("right", "command", "what"),
    [
        ("s3:PutObject", None, "write files"),
        ("s3:GetObject", None, "read files"),
        ("s3:DeleteObject", ("scrub",), "delete files"),
        ("s3:ListBucket", BACKUP, "list files"),
        ("s3:PutObject", BACKUP, "write files"),
        ("s3:GetObject", ("rebuild", "--yes"), "read files"),
        ("s3:ListBucket", ("rebuild", "--yes"), "list files"),
    ],
)
def test_missing_right_is_named(
    right: str,
    command: tuple[str, ...] | None,
    what: str,
    s3: str,
    ok: Command,
    run: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    become(monkeypatch, user_with(s3, policy("service", BUCKET, PREFIX)))
    delivery = delivered(tmp_path, HASHES)
    if command is not None:
        ok(*delivery)
        ok("erase", f"email:{HASHES[0]}")
    become(monkeypatch, user_with(s3, without(right)))

    refused = run(*(command or delivery))

    said = f"the storage does not let the service {what} ({right}); give its credentials that right"
    assert refused.exit_code == 1
    assert said in refused.output
    # Without files a rebuild would leave it empty.
    assert "ok    store: answers, laid out" in run("doctor").output


def test_doctor_names_a_missing_right(
    s3: str, ok: Command, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, user_with(s3, policy("service", BUCKET, PREFIX)))
    ok(*delivered(tmp_path, HASHES))
    become(monkeypatch, user_with(s3, without("s3:ListBucket")))

    said = "can't be read (it does not let the service list files (s3:ListBucket))"
    assert said in run("doctor").output


def test_parts_of_an_upload_that_breaks_off_are_deleted_by_a_right_of_its_own(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, user_with(s3, policy("service", BUCKET, PREFIX)))
    with pytest.raises(ConnectionResetError):
        asyncio.run(broken_off())
    with_it = parts(s3)
    become(monkeypatch, user_with(s3, without("s3:AbortMultipartUpload")))
    with pytest.raises(RightMissing, match=r"of a file that broke off \(s3:AbortMultipartUpload\)"):
        asyncio.run(broken_off())

    assert (with_it, parts(s3)) == (0, 1)


async def broken_off() -> None:
    """Upload to a blob until the client leaves."""

    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(6 << 20)
        raise ConnectionResetError

    await Blobs.open(f"s3://{BUCKET}/{PREFIX}").put("deliveries/1/a", chunks())


def parts(s3: str) -> int:
    """The number of unfinished uploads."""
    return len(admin(s3).list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()))
