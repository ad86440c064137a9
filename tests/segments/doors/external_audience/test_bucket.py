"""Runs of an audience whose files are in a bucket of the customer's."""

from typing import Any

import boto3
import pytest

from segments.ledger.external_audience import base_connections, orgs
from tests.segments.doors.external_audience.external_world import BASE, ORG, External

BUCKET = "customers"
CONTENT = b"mail\nalice@example.com\n"


@pytest.fixture
def client(s3: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CUSTOMER_SECRET", "secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return boto3.client("s3", endpoint_url=s3, region_name="us-east-1")


async def connection(external: External, s3: str, bucket: str) -> str:
    options = {
        "aws_access_key_id": "AKID",
        "aws_secret_access_key": "env:CUSTOMER_SECRET",
        "aws_region": "us-east-1",
        "aws_endpoint_url": s3,
        "allow_http": "true",
    }
    async with external.rest.services.ledger.begin() as conn:
        sandbox = await orgs.sandbox(conn, ORG, "prod")
        added = await base_connections.add_connection(
            conn, sandbox, "their bucket", f"s3://{bucket}", options, now_s=0
        )
    return added.public_id


async def test_object_that_is_delivered_again_with_the_same_content_is_taken_again(
    external: External, s3: str, client: Any
) -> None:
    """
    A daily file of the same persons renews them, though its ETag stays what it was.
    """
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="in/a.csv", Body=CONTENT)
    source = {"path": "in", "type": "folder",
              "baseConnectionId": await connection(external, s3, BUCKET)}  # fmt: skip
    audience_id = await external.create(sourceSpec=source)
    end = {"dataFilterEndTime": int(external.rest.clock()) + 600}
    first = await external.run(audience_id, **end)
    unchanged = await external.run(audience_id, **end)
    before = client.head_object(Bucket=BUCKET, Key="in/a.csv")
    later = before
    while later["LastModified"] == before["LastModified"]:  # S3 tells it in whole seconds
        client.put_object(Bucket=BUCKET, Key="in/a.csv", Body=CONTENT)
        later = client.head_object(Bucket=BUCKET, Key="in/a.csv")

    again = await external.run(audience_id, **end)

    assert before["ETag"] == later["ETag"]
    assert [run["details"][0]["message"] for run in (first, unchanged, again)] == [
        "1 files, 1 rows, 0 of them unusable",
        "0 files, 0 rows, 0 of them unusable",
        "1 files, 1 rows, 0 of them unusable",
    ]


async def test_bucket_that_fails_is_named_with_how(
    external: External, s3: str, client: Any
) -> None:
    assert client
    source = {"path": "in", "type": "folder",
              "baseConnectionId": await connection(external, s3, "none-such")}  # fmt: skip

    created = await external.rest.ask("POST", BASE, {**external.spec, "sourceSpec": source})
    operation = await external.operation(created.body["operationId"])

    assert operation["status"] == "FAILED"
    assert operation["error"] == "base connection their bucket: the bucket is not there"
