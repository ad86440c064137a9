"""What can be read of a customer's bucket, and that nothing else can."""

import asyncio

import boto3
import pytest

from segments.files.base_connection import BaseConnection, open_storage
from segments.files.customer_storage import NotThere, StorageAway

BUCKET = "customers"


def connection(url: str, **options: str) -> BaseConnection:
    return BaseConnection(1, "x", 1, "x", url, options)


async def test_bucket_is_read_below_its_prefix_alone(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTOMER_SECRET", "secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    client = boto3.client("s3", endpoint_url=s3, region_name="us-east-1")
    await asyncio.to_thread(client.create_bucket, Bucket=BUCKET)
    for key in ("acme/in/a.csv", "acme/in/_SUCCESS", "acme/in/deep/b.csv", "other/secret.csv"):
        await asyncio.to_thread(client.put_object, Bucket=BUCKET, Key=key, Body=b"abc")
    storage = open_storage(
        connection(
            f"s3://{BUCKET}/acme",
            aws_access_key_id="AKID",
            aws_secret_access_key="env:CUSTOMER_SECRET",
            aws_region="us-east-1",
            aws_endpoint_url=s3,
            allow_http="true",
        )
    )

    files = await asyncio.to_thread(storage.folder, "in")
    changed = await asyncio.to_thread(storage.file, "in/a.csv")
    with await asyncio.to_thread(storage.open, files[0]) as raw:
        content = await asyncio.to_thread(raw.read)
    await asyncio.to_thread(client.put_object, Bucket=BUCKET, Key="acme/in/a.csv", Body=b"new")

    assert [file.path for file in files] == ["in/a.csv", "in/deep/b.csv"]
    assert (content, changed) == (b"abc", files[0])
    with pytest.raises(NotThere):
        await asyncio.to_thread(storage.open, files[0])
    with pytest.raises(NotThere):
        await asyncio.to_thread(storage.file, "other/secret.csv")


async def test_bucket_that_is_not_there_is_away(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMER_SECRET", "secret")
    storage = open_storage(
        connection(
            "s3://no-such-bucket",
            aws_access_key_id="AKID",
            aws_secret_access_key="env:CUSTOMER_SECRET",
            aws_region="us-east-1",
            aws_endpoint_url=s3,
            allow_http="true",
        )
    )

    with pytest.raises(StorageAway):
        await asyncio.to_thread(storage.folder, "in")
