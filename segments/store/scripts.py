"""
The Lua scripts that write to the store.

A script reads, decides and writes atomically, on one key, usually a bucket, named in KEYS for a
Cluster. Without a Cluster, scripts that write to buckets note the changed one under a second key
(`segments.store.changed_buckets`). The store knows a script by its text's SHA-1, and forgets it on
restart: NOSCRIPT.
"""

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    """A Lua script and its name in the store."""

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
CHANGED = _script("changed.lua")
SEEN = _script("seen.lua")
RATE = _script("rate.lua")
LEASE = _script("lease.lua")
