"""
An external audience by Adobe's community client `aepp`: created, run, and run once more.

It speaks with https://platform.adobe.io and nobody else; HTTPS_PROXY leads there.
"""

import json
import os
import sys
import time
from typing import Any

from aepp import config
from aepp.segmentation import Segmentation


def client(org_id: str, api_key: str, token: str) -> Segmentation:
    """Make one that has its token already, as its own `importConfigFile` and a login would."""
    config.config_object.update(
        org_id=org_id, client_id=api_key, sandbox="prod", environment="prod", token=token,
        date_limit=time.time() + 3600, connectionType="oauthV2", scopes="none",
    )  # fmt: skip
    config.header.update({"x-api-key": api_key, "x-gw-ims-org-id": org_id})
    return Segmentation()


def main() -> None:
    """Print how creation and runs ended."""
    aep = client(os.environ["ORG_ID"], os.environ["API_KEY"], os.environ["TOKEN"])
    audience = json.loads(json.dumps(Segmentation.EXTERNAL_AUDIENCE_DICT))
    audience["sourceSpec"]["params"]["baseConnectionId"] = os.environ["CONNECTION_ID"]
    audience["sourceSpec"]["params"]["path"] = "in/example.csv"

    created = aep.createExtenalAudience(audience)
    operation = _ended(lambda: aep.getExternalAudienceStatus(created["operationId"]))
    print("operation", operation["status"])  # noqa: T201 - its report
    for _ in range(2):
        started = aep.runExternalAudienceJob(operation["audienceId"], startTime=764245635)
        run = _ended(
            lambda: aep.getExternalAudienceJob(operation["audienceId"], started["runId"])  # noqa: B023
        )
        print("run", run["status"])  # noqa: T201


def _ended(ask: Any) -> dict[str, Any]:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        answer: dict[str, Any] = ask()
        if answer.get("status") != "PROCESSING":
            return answer
        time.sleep(0.1)
    sys.exit("not ended in time")


main()
