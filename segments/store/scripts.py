"""
The Lua scripts that write to the store, ready to be sent.

A script touches one key, most often a bucket, which it names in KEYS, so that it runs in a
Cluster; it reads, decides and writes without anyone between. The store knows a
script by the SHA-1 of its text and forgets it when it restarts, which the
writer finds out by NOSCRIPT.
"""

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    """A Lua script and the name by which the store knows it."""

    source: bytes
    sha: str


def _script(*file_names: str) -> Script:
    directory = files("segments.store") / "lua"
    source = b"\n".join((directory / name).read_bytes() for name in file_names)
    return Script(source, sha1(source, usedforsecurity=False).hexdigest())


MERGE = _script("record.lua", "merge.lua")
OPT_OUT = _script("record.lua", "opt_out.lua")
SWEEP = _script("record.lua", "sweep.lua")
RETAIN = _script("record.lua", "retain.lua")
MATCH = _script("record.lua", "match.lua")
SEEN = _script("seen.lua")
