"""
Runs in the tree of an earlier release, on its code: makes a small deployment of it.

    cd TREE && SEGMENTS_DATA_DIR=DIR python make_sample.py HASHES_FILE

`tests.upgrade.earlier` calls it. It uses the command line alone, which every release has.
"""

import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

from click.testing import CliRunner

from segments.cli import main


def call(*arguments: str, stdin: str = "") -> str:
    """Run a command that succeeds."""
    result = CliRunner().invoke(main, arguments, input=stdin)
    if result.exit_code != 0:
        raise SystemExit(f"{arguments[:2]}: {result.output} {result.exception!r}")
    return result.output


def load(folder: Path, hashes: list[str], segment: str, action: str) -> None:
    """Deliver a file, and carry its job to the end."""
    content = "".join(f"{each}\n" for each in hashes).encode()
    digest = hashlib.md5(content).hexdigest()
    file = folder / f"{digest}.txt"
    file.write_bytes(content)
    metadata = {
        "partner_id": "shop",
        "file": {
            "name": file.name,
            "hash": "md5",
            "digest": digest,
            "date": "2026-11-24",
            "records": len(hashes),
        },
        "segments": [{"id": segment, "name": "Shoes", "action": action}],
    }
    described = folder / f"{segment}-{action}.json"
    described.write_text(json.dumps(metadata))
    call("load", str(file), "--metadata", str(described))


def make(scratch: Path) -> None:
    """Make the deployment."""
    hashes = [hashlib.sha256(f"person{n}@example.com".encode()).hexdigest() for n in range(200)]
    call("account", "add", "--kind", "advertiser", "--id", "shop", "--name", "Shop")
    call("account", "add", "--kind", "publisher", "--id", "news", "--name", "News")
    call("account", "relate", "news", "shop")
    call("recipient", "add", "dsp-a", "--partner", "shop")
    load(scratch, hashes[:100], "123", "add")
    load(scratch, hashes[50:150], "456", "add")
    load(scratch, hashes[90:100], "123", "remove")
    call("restrict", hashes[0])
    call("erase", hashes[1])
    call("token", "create", "--note", "agent")
    call("user", "add", "jane", "--partner", "shop", "--password-stdin", stdin="a long password\n")


make(Path(sys.argv[1]))
