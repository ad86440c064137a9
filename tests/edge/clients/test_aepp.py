"""`aepp`, the client of Adobe's platform that its users have, runs an external audience."""

import sys

import pytest

from tests.edge.clients.proxies import tunnelling
from tests.edge.clients.service import ORG_ID, Service, program

pytestmark = pytest.mark.xdist_group("clients")  # they share the services


def test_aepp_runs_an_external_audience_and_retries(in_bucket: Service) -> None:
    """
    The address of Adobe's platform stands in its source, so it comes by a proxy.
    """
    (in_bucket.customer / "in" / "example.csv").write_text(
        "ppid,list_id,delete,process_consent\nperson0@example.com,7,0,y\n"
    )

    with tunnelling(in_bucket.api_port) as port:
        status, said = in_bucket.ran(
            sys.executable, "-W", "ignore", program("aepp_runs.py"),
            HTTPS_PROXY=f"http://127.0.0.1:{port}", ORG_ID=ORG_ID, TOKEN=in_bucket.org.token,
            API_KEY=in_bucket.org.api_key, CONNECTION_ID=in_bucket.connection_id,
        )  # fmt: skip

    assert status == 0, said
    assert said.splitlines() == ["operation SUCCESS", "run SUCCESS", "run SUCCESS"]
    in_bucket.until(lambda: in_bucket.bid() == "enriched")
