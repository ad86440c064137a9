"""Readiness tells of a bucket that is away, and is not kept waiting by it."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.projection.bucket_look import BucketLook
from segments.projection.ills import Ills
from tests.edge.small_store import eventually
from tests.faults.proxy import proxied
from tests.s3 import become

AWAY = (
    "the storage of delivered files does not answer, or refuses; see that SEGMENTS_BLOB_URL is"
    " right, its server runs, and lets the service read and write"
)


def use(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    become(
        monkeypatch,
        {
            "AWS_ACCESS_KEY_ID": "AKID",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
        },
    )


async def test_bucket_that_stops_answering_is_told_until_it_answers_again(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    async with proxied(urlsplit(s3).port or 0) as proxy:
        use(monkeypatch, f"http://{urlsplit(proxy.url).netloc}")
        boto3.client("s3", endpoint_url=s3).create_bucket(Bucket="looked-at")
        look = BucketLook(Blobs.open("s3://looked-at/files"), every_s=0, within_s=1)
        before = look.fault()
        proxy.is_refusing = True
        proxy.cut()
        await eventually(lambda: look.fault() == AWAY)
        proxy.is_refusing = False
        await eventually(lambda: look.fault() == "")

    assert before == ""


async def test_bucket_that_refuses_is_among_the_faults_of_a_process(
    s3: str, monkeypatch: pytest.MonkeyPatch, ledger: AsyncEngine, tmp_path: Path
) -> None:
    use(monkeypatch, s3)
    blobs = Blobs.open("s3://not-there/files")
    ills = Ills(ledger, blobs, tmp_path, None, bucket=BucketLook(blobs))

    async def is_told() -> bool:
        return await ills() == [AWAY]

    assert await ills() == []
    await eventually(is_told)
