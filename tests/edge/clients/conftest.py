"""Two services that the clients share; one process of xdist has all whose group is `clients`."""

from collections.abc import Iterator

import pytest

from tests.edge.clients.service import Service
from tests.s3 import policy, s3_server, user_with
from tests.tls import TestCa


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that keeps files in a directory of its own, and listens without TLS."""
    yield from _running(Service(tmp_path_factory.mktemp("service")))


@pytest.fixture(scope="package")
def in_bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that keeps files in a bucket, and whose REST doors speak TLS."""
    import boto3

    with s3_server() as url:
        boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="AKID",
            aws_secret_access_key="secret",
        ).create_bucket(Bucket="audiences")  # fmt: skip
        folder = tmp_path_factory.mktemp("in-bucket")
        yield from _running(
            Service(
                folder,
                TestCa.in_folder(folder / "tls"),
                SEGMENTS_BLOB_URL="s3://audiences/segments",
                **user_with(url, policy("service", "audiences", "segments")),
            )
        )


def _running(service: Service) -> Iterator[Service]:
    service.start()
    yield service
    status = service.stop()
    assert status == 0, service.log
    assert "Traceback" not in service.log
