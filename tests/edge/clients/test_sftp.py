"""
A whole delivery by each client that partners have, and its retry: both end as a success.
"""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest

from segments.doors.live_audience.file_names import TAKEN
from tests.edge.clients.proxies import delaying
from tests.edge.clients.service import CONTENT, Service
from tests.segments.ingest.deliveries import as_json, metadata_of

pytestmark = pytest.mark.xdist_group("clients")  # they share the services

Client = Callable[[Service, str], None]
"""Puts `NAME` and `NAME.json`, which lie in the service's folder."""


def openssh_sftp(service: Service, name: str) -> None:
    _run(
        service, "sftp", "-b", "-", "-P", str(service.sftp_port), *_options(service),
        "shop@127.0.0.1", text=f"put {name}\nput {name}.json\n",
    )  # fmt: skip


def openssh_scp(service: Service, name: str) -> None:
    _run(
        service, "scp", "-P", str(service.sftp_port), *_options(service),
        name, f"{name}.json", "shop@127.0.0.1:",
    )  # fmt: skip


def lftp(service: Service, name: str) -> None:
    _run(service, "lftp", "-c", _lftp_script(service, name, "no"))


def lftp_by_temporary_names(service: Service, name: str) -> None:
    _run(service, "lftp", "-c", _lftp_script(service, name, "yes"))


def rclone(service: Service, name: str) -> None:
    """It looks at each file that it has put, and compares size and time."""
    remote = (
        f":sftp,host=127.0.0.1,port={service.sftp_port},user=shop,"
        f"key_file={service.folder / 'shop'},shell_type=none,set_modtime=false:/"
    )
    for each in (name, f"{name}.json"):
        _run(service, "rclone", "copyto", "--retries=1", each, f"{remote}{each}")


def paramiko_over_a_slow_line(service: Service, name: str) -> None:
    """`put` looks at the file afterwards (`confirm=True`), which comes 200 ms later here."""
    with delaying(service.sftp_port, 0.1) as port, paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1", port, "shop", key_filename=str(service.folder / "shop"),
            allow_agent=False, look_for_keys=False,
        )  # fmt: skip
        with client.open_sftp() as sftp:
            for each in (name, f"{name}.json"):
                sftp.put(str(service.folder / each), each)


@pytest.mark.parametrize(
    "deliver",
    [
        pytest.param(openssh_sftp, id="sftp of OpenSSH"),
        pytest.param(openssh_scp, id="scp of OpenSSH"),
        pytest.param(lftp, id="lftp"),
        pytest.param(lftp_by_temporary_names, id="lftp with temporary names"),
        pytest.param(rclone, id="rclone"),
        pytest.param(paramiko_over_a_slow_line, id="paramiko over a slow line"),
    ],
)
def test_sftp_client_delivers_and_retries(service: Service, deliver: Client) -> None:
    name = f"{deliver.__name__}.txt"
    metadata = metadata_of(CONTENT, records=50, partner_id="shop")
    metadata["file"]["name"] = name
    (service.folder / name).write_bytes(CONTENT)
    (service.folder / f"{name}.json").write_bytes(as_json(metadata))

    answers: list[Any] = []
    for _ in range(2):
        deliver(service, name)
        service.until(lambda: _is_processed(service, name, answers))

    first, second = answers
    assert [(segment["code"], segment["records"]) for segment in first["segments"]] == [("OK", 50)]
    assert [second[name] for name in ("transaction_id", "segments")] == [
        first[name] for name in ("transaction_id", "segments")
    ]
    assert service.bid() == "enriched"


def _is_processed(service: Service, name: str, answers: list[Any]) -> bool:
    """Whether our last answer to the metadata file that was put last is there; note it."""
    # In the order in which we move that file, and answer before we delete it: an answer that
    # is read while the file is in neither place answers no earlier one.
    for folder in (_folder(service), _folder(service) / TAKEN):
        if (folder / f"{name}.json").exists():
            return False
    path = _folder(service) / f"{name}.status"
    answer = json.loads(path.read_bytes()) if path.exists() else {}
    assert "error" not in answer, answer
    is_last = "code" in answer.get("segments", [{}])[0]
    if is_last:
        answers.append(answer)
    return is_last


def _folder(service: Service) -> Path:
    return service.folder / "data" / "drop" / "shop"


def _run(service: Service, *command: str, text: str = "") -> None:
    status, said = service.ran(*command, text=text)
    assert status == 0, said


def _options(service: Service) -> list[str]:
    return [
        "-i", str(service.folder / "shop"), "-F", "none", "-o", "BatchMode=yes",
        "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
        "-o", f"UserKnownHostsFile={service.folder / 'hosts'}",
    ]  # fmt: skip


def _lftp_script(service: Service, name: str, is_temporary: str) -> str:
    connect = shlex.join(["ssh", "-a", "-x", *_options(service)])
    return (
        f'set sftp:connect-program "{connect}"; set net:max-retries 1;'
        f" set xfer:use-temp-file {is_temporary}; set cmd:fail-exit yes;"
        f" open -u shop,none sftp://127.0.0.1:{service.sftp_port};"
        f" put {name}; put {name}.json; cls -l; bye"
    )
