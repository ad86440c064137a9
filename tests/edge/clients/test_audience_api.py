"""
Whole deliveries to the Audience API by HTTP clients of the world, and their retries; and
bid requests by the same.
"""

import shutil
from pathlib import Path

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from tests.edge.clients.service import (
    CONTENT,
    PASSWORD,
    USER,
    Service,
    arguments,
    program,
)

pytestmark = pytest.mark.xdist_group("clients")  # they share the services

_ALL_WELL = [
    "put 200",
    "status done",
    "put 200",
    "status done",
    "bid 200 200 [true,true]",
]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("sh", program("deliver.sh")), id="curl"),
        pytest.param(("node", program("deliver.mjs")), id="fetch of Node"),
        pytest.param(
            ("java", program("Deliver.java")),
            id="HttpClient of Java",
            marks=pytest.mark.skipif(
                shutil.which("java") is None,
                reason="there is no java: openjdk-17-jdk-headless, where Debian has it",
            ),
        ),
    ],
)
def test_http_client_delivers_retries_and_bids(
    service: Service, tmp_path: Path, command: tuple[str, str]
) -> None:
    file = tmp_path / "people.txt"
    file.write_bytes(CONTENT)

    status, said = service.ran(*command, **arguments(service, file))

    assert status == 0, said
    assert said.splitlines() == _ALL_WELL


@pytest.mark.parametrize("where", ["service", "in_bucket"])
def test_boto3_delivers_to_a_presigned_url_and_retries(
    request: pytest.FixtureRequest, where: str
) -> None:
    """
    As its users do it: an object is put without a signature of one's own, to the URL given.
    """
    service: Service = request.getfixturevalue(where)
    bearer = service.ask("/login", {"username": USER, "password": PASSWORD})["token"]
    audience = service.ask("/audience", {"advertiser": "shop", "name": where}, bearer)["id"]
    form = {"filename": "boto3.txt", "action": "add", "type": "sha2"}
    upload = service.ask(f"/audience/upload/{audience}", form, bearer)
    statuses, answers = [], []

    for _ in range(2):
        statuses.append(_put_by_boto3(upload["output"]["presignedURI"]))
        service.until(lambda: _state(service, upload["requestId"], bearer) == "done")
        answers.append(service.ask(f"/audience/upload/{upload['requestId']}", bearer=bearer))

    assert statuses == [200, 200]
    assert answers[0] == answers[1]
    assert service.bid() == "enriched"


def _put_by_boto3(url: str) -> int:
    """It adds a checksum of its own, and waits for 100 Continue."""
    client = boto3.client(
        "s3", region_name="us-east-1", endpoint_url="http://127.0.0.1",
        config=Config(signature_version=UNSIGNED),
    )  # fmt: skip

    def go_there(request: object, **_: object) -> None:
        request.url = url  # type: ignore[attr-defined]

    client.meta.events.register("before-send.s3.PutObject", go_there)
    put = client.put_object(Bucket="any", Key="any", Body=CONTENT)
    status: int = put["ResponseMetadata"]["HTTPStatusCode"]
    return status


def _state(service: Service, request_id: str, bearer: str) -> object:
    return service.ask(f"/audience/upload/{request_id}", bearer=bearer)["output"]["status"]
