"""
The store's users with the least rights, from the commands that the code sends.

    deploy/redis.acl                  every user, for `aclfile`; it can hold no comments
    compose.yaml, docs/operations.md, deploy/kubernetes/README.md    those of `bids` and `writers`
    segments/store/command_names.py   the writers' commands, for `doctor`
"""

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from docs.make.store_commands import Commands, of_bids, of_writers

KEYS: Final = ("~seg:1:*", "&seg:1:changed")
"""Every key of ours, and the channel of the catalog's changes."""

_RULE: Final = re.compile(
    r"(?P<user>(?:user|SETUSER) (?P<name>bids|writers) on \S+(?: \S+)* ~seg:1:\* &seg:1:changed)"
    r"(?P<gap>\s+)\+[a-z|]+(?:\s+\+[a-z|]+)*"
)
_COLUMNS: Final = 100
"""Of a rule that has a line of its own for its commands."""

_DEFAULT: Final = "user default off ~* &* +@all"
"""
No client can log in as this user, but Redis and older Valkey read their append-only file back as
it: without rights, every write of a transaction or a script is lost at the next start, without a
word (https://github.com/valkey-io/valkey/pull/3984).
"""

# Of Redis's own documentation of Sentinel; a replica needs no more than these three.
_REPLICA: Final = "+psync +replconf +ping"
_SENTINEL: Final = (
    "&__sentinel__:hello +multi +slaveof +ping +exec +subscribe +config|rewrite +role +publish"
    " +info +client|setname +client|kill +script|kill"
)

_NAMES: Final = '''\
"""
The commands that processes other than the bid listener send to the store.

Written by `make docs` from the code: docs/make/store_commands.py.
"""

from typing import Final

WRITERS: Final = (
{always})
"""Of any store."""

WRITERS_IN_CLUSTER: Final = (
{in_cluster})
"""Of a Redis Cluster as well."""
'''


def rights(commands: Iterable[str]) -> tuple[str, ...]:
    """Return the rules that allow some commands."""
    return tuple(f"+{name.lower().replace(' ', '|')}" for name in sorted(commands))


def acl_file(bids: Commands, writers: Commands) -> str:
    """Return the ACL file; the server refuses it until each password's SHA-256 is put in."""
    least = rights(bids.always)
    users = {
        "operator": ("~*", "&*", "+@all"),
        "bids": (*KEYS, *least),
        "bids-caching": (*KEYS, *rights(bids.always | bids.by_options - {"READONLY"})),
        "bids-of-cluster": (*KEYS, *rights(bids.always | bids.in_cluster)),
        "writers": (*KEYS, *rights(writers.always)),
        "writers-of-cluster": (*KEYS, *rights(writers.always | writers.in_cluster)),
        "replica": (_REPLICA,),
        "sentinel": (_SENTINEL,),
    }
    lines = [
        f"user {name} on #SHA256_OF_{name.upper().replace('-', '_')} {' '.join(rules)}\n"
        for name, rules in users.items()
    ]
    return "".join([f"{_DEFAULT}\n", *lines])


def command_names(writers: Commands) -> str:
    """Return the module of the writers' commands."""

    def lines(names: Iterable[str]) -> str:
        return "".join(f'    "{name}",\n' for name in sorted(names))

    return _NAMES.format(always=lines(writers.always), in_cluster=lines(writers.in_cluster))


def with_least_rights(text: str, bids: Commands, writers: Commands) -> str:
    """
    Return a file with the right rule of `default`, and the commands of `bids` and `writers` in each
    rule that it has for them.
    """
    needed = {"bids": bids.always, "writers": writers.always}

    def rule(found: re.Match[str]) -> str:
        commands, gap = " ".join(rights(needed[found["name"]])), found["gap"]
        if "\n" in gap:
            width = _COLUMNS - len(gap.lstrip("\n"))
            commands = gap.join(textwrap.wrap(commands, width, break_on_hyphens=False))
        return found["user"] + gap + commands

    return re.sub("user default off.*", _DEFAULT, _RULE.sub(rule, text))


def acl_files(root: Path) -> dict[Path, str]:
    """Return every file that has rights of ours, as it has to be."""
    bids, writers = of_bids(), of_writers()
    shared = ("compose.yaml", "docs/operations.md", "deploy/kubernetes/README.md")
    return {
        root / "deploy/redis.acl": acl_file(bids, writers),
        root / "segments/store/command_names.py": command_names(writers),
        **{
            root / name: with_least_rights((root / name).read_text(encoding="utf-8"), bids, writers)
            for name in shared
        },
    }
