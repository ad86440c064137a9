"""
Adobe's external audiences, as a customer's engineer meets them: the document's curl
calls with the braces filled in, and bid requests beside them.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.ports import free_ports
from tests.e2e.service import Service, bid_request, processes_of

ALICE, BOB = (bid_request(f"{name}@example.com") for name in ("alice", "bob"))
ORG_ID = "0123456789ABCDEF@AdobeOrg"
_PATIENCE_S = 60


class Customer:
    """The document's curl calls."""

    def __init__(self, service: Service, api: str, made: str) -> None:
        api_key, token = (line.split("\t")[1] for line in made.splitlines() if "\t" in line)
        self._service = service
        self.base = f"{api}/data/core/ais/external-audience"
        self._headers = [
            "-H", f"Authorization: Bearer {token}",
            "-H", f"x-gw-ims-org-id: {ORG_ID}",
            "-H", f"x-api-key: {api_key}",
            "-H", "x-sandbox-name: prod",
        ]  # fmt: skip

    async def curl(
        self, method: str, path: str, body: dict[str, Any] | None = None, *more: str
    ) -> tuple[int, Any]:
        """Ask, and return the status and the body."""
        data = [] if body is None else ["-d", json.dumps(body)]
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "-w", "\n%{http_code}", "-X", method, self.base + path,
            *self._headers, *more, *data, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
        text, _, status = out.decode().rpartition("\n")
        return int(status), json.loads(text) if text else None

    async def until(self, path: str, member: str, value: str) -> Any:
        """Ask until a member of the answer is what it shall be."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                status, body = await self.curl("GET", path)
                assert status == 200, body
                if body[member] == value:
                    return body
                assert body[member] == "PROCESSING", body
                await asyncio.sleep(0.1)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    (port,) = free_ports(1)
    service = Service(tmp_path, SEGMENTS_API_PORT=str(port))
    yield service
    for pid in processes_of(service):
        os.kill(pid, signal.SIGKILL)


async def open_sandbox(service: Service, folder: Path) -> tuple[Customer, str]:
    """Do what the operator does; return the customer and its base connection."""
    await service.command("account", "add", "--kind", "advertiser", "--id", "acme", "--name", "A")
    await service.command("recipient", "add", "dsp-a", "--partner", "acme")
    made = await service.command("org", "add", ORG_ID, "--partner", "acme")
    added = await service.command(
        "connection", "add", "files", "--org", ORG_ID, "--url", folder.as_uri()
    )
    api = f"http://127.0.0.1:{service.environment['SEGMENTS_API_PORT']}"
    return Customer(service, api, made), added.strip()


def sample(connection_id: str) -> dict[str, Any]:
    """The document's example."""
    return {
        "name": "Sample external audience",
        "description": "A sample version of an external audience",
        "fields": [
            {"name": "ppid", "type": "string", "identityNs": "email"},
            {"name": "list_id", "type": "string", "labels": ["core/C2", "custom/deep"]},
            {"name": "delete", "type": "number"},
            {"name": "process_consent", "type": "string"},
        ],
        "sourceSpec": {
            "params": {
                "path": "activation/sample-source/example.csv",
                "type": "file",
                "sourceType": "Cloud Storage",
                "baseConnectionId": connection_id,
            }
        },
        "ttlInDays": "40",
        "labels": ["core/C1"],
        "audienceType": "people",
        "originName": "CUSTOM_UPLOAD",
    }


def customers_folder(tmp_path: Path) -> Path:
    """A folder with the example's file: Alice says yes, and Bob does not."""
    folder = tmp_path / "customer"
    source = folder / "activation" / "sample-source"
    source.mkdir(parents=True)
    (source / "example.csv").write_text(
        "ppid,list_id,delete,process_consent\nAlice@Example.com,7,0,y\nbob@example.com,7,0,n\n"
    )
    return folder


async def test_life_of_an_external_audience_as_the_document_has_it(
    service: Service, tmp_path: Path
) -> None:
    async with service.running():
        customer, connection_id = await open_sandbox(service, customers_folder(tmp_path))

        status, created = await customer.curl(
            "POST", "/", sample(connection_id), "-H", "Content-Type: application/json"
        )
        assert (status, created["operationDetails"]["ttlInDays"]) == (202, 40)

        operation = await customer.until(
            f"/operations/{created['operationId']}", "status", "SUCCESS"
        )
        audience = f"/{operation['audienceId']}"

        status, started = await customer.curl(
            "POST", f"{audience}/run", {"dataFilterStartTime": 764245635}
        )
        assert (status, started["differentialIngestion"]) == (200, True)
        run = await customer.until(f"{audience}/runs/{started['runId']}", "status", "SUCCESS")
        assert [stage["stage"] for stage in run["details"]] == [
            "DATASET_INGEST",
            "PROFILE_STORE_INGEST",
        ]
        status, listed = await customer.curl("GET", f"{audience}/runs")
        assert (status, [each["runId"] for each in listed["runs"]]) == (200, [started["runId"]])

        alice = await service.bid(ALICE, "dsp-a")
        bob = await service.bid(BOB, "dsp-a")
        assert alice.segment_ids["acme"] == [operation["segmentId"]]
        assert bob.outcome == "no_match"

        status, changed = await customer.curl(
            "PATCH", audience, {"description": "New sample description", "ttlInDays": 3}
        )
        assert (status, changed["description"], changed["ttlInDays"]) == (
            200,
            "New sample description",
            3,
        )

        status, _ = await customer.curl("DELETE", f"{audience}/")
        assert status == 204
        gone = await service.until("no_match", ALICE, "dsp-a")
        assert gone.segment_ids == {"other": ["9"]}
        # For an hour, so that a customer who was told "not yet" may ask again.
        status, _ = await customer.curl("DELETE", audience)
        assert status == 204
        status, problem = await customer.curl("GET", f"{audience}/runs")
        assert (status, problem["errorCode"]) == (404, "100940-404")


async def test_segment_is_shown_to_the_last_day_of_its_ttl_and_not_on_the_next(
    service: Service, tmp_path: Path
) -> None:
    """
    The product's clock is put ahead between three starts of all its processes.
    """
    service.environment["PYTHONPATH"] = str(Path(__file__).parent / "clock")
    async with service.running():
        customer, connection_id = await open_sandbox(service, customers_folder(tmp_path))
        _, created = await customer.curl("POST", "/", sample(connection_id))
        operation = await customer.until(
            f"/operations/{created['operationId']}", "status", "SUCCESS"
        )
        audience = f"/{operation['audienceId']}"
        _, started = await customer.curl("POST", f"{audience}/runs", {"dataFilterStartTime": 1})
        await customer.until(f"{audience}/runs/{started['runId']}", "status", "SUCCESS")
        first_day = await service.bid(ALICE, "dsp-a")

    shown = {}
    for day in (40, 41):
        service.environment["TEST_CLOCK_AHEAD_S"] = str(day * 86_400)
        async with service.running():
            shown[day] = (await service.bid(ALICE, "dsp-a")).outcome

    assert first_day.outcome == "enriched"
    assert shown == {40: "enriched", 41: "no_match"}
