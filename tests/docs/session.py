"""
The shell blocks of a page, run as a reader would: in order, in one shell, beside a started service.

The pages speak of the ports that the service has unless told otherwise, and of `.venv` in the
working directory. A test has other ports, and a link.
"""

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtest.ports import free_ports
from tests.commands import script_for_shells
from tests.docs.pages import Block
from tests.e2e.service import Service

_PATIENCE_S = 180

API_PORT, SFTP_PORT = 8082, 2222
_OWN_PORTS = (8080, 8081, API_PORT, SFTP_PORT, 8085, 8092)
"""The last two are of processes that a page starts itself."""


class Failed(Exception):
    """A block ended with an error; says which, and what it printed."""


def service_of(folder: Path) -> tuple[Service, dict[int, int]]:
    """A service that is not started yet, and its ports by those that pages speak of."""
    api, sftp, *others = free_ports(4)
    service = Service(folder, SEGMENTS_API_PORT=str(api), SEGMENTS_SFTP_PORT=str(sftp))
    ports = (service.port, service.admin_port, api, sftp, *others)
    return service, dict(zip(_OWN_PORTS, ports, strict=True))


async def run(
    blocks: Sequence[Block], service: Service, ports: Mapping[int, int]
) -> list[tuple[Block, str]]:
    """
    Run blocks one after another in one shell.

    Returns:
        What each printed on its standard output.

    Raises:
        Failed: A command of a block failed.
    """
    folder = service.folder
    _make_venv(folder / ".venv")
    outputs = [folder / f"block-{number}.out" for number in range(len(blocks))]
    script = "".join(
        f"{{\n{_on_ports(block.text, ports)}\n}} > {output}\n"
        for block, output in zip(blocks, outputs, strict=True)
    )
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", script,
        cwd=folder, env={**service.environment, "HOME": str(folder)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
    except TimeoutError:
        process.kill()
        said = b"it did not end"
    printed = [output.read_text() for output in outputs if output.exists()]
    if process.returncode != 0:
        block = blocks[len(printed) - 1]
        place = f"{block.page.name}:{block.line}"
        raise Failed(f"{place}:\n{block.text}\n{printed[-1]}\n{said.decode()}")
    return list(zip(blocks, printed, strict=True))


def _make_venv(folder: Path) -> None:
    """Make ours once more, in which only `rtb-segments` is another."""
    ours = folder / "bin" / "rtb-segments"
    ours.parent.mkdir(parents=True)
    for there in Path(sys.prefix).iterdir():
        if there.name != "bin":
            (folder / there.name).symlink_to(there)
    for program in (Path(sys.prefix) / "bin").iterdir():
        if program.name != ours.name:
            (ours.parent / program.name).symlink_to(program)
    script_for_shells(ours)


def _on_ports(text: str, ports: Mapping[int, int]) -> str:
    return re.sub(r"\b\d{4}\b", lambda found: str(ports.get(int(found[0]), found[0])), text)
