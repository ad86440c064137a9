"""
A store's error in safe words: code, refused command, cure.

Errors quote what was sent, ids and all, and redis-py adds the whole command.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from redis.exceptions import RedisError, ResponseError

_CODE = re.compile(r"[A-Z]{2,20}")
_REFUSED = re.compile(r"run the '([a-z]{2,20}(?:\|[a-z-]{2,20})?)' command")
"""User bids has no permissions to run the 'cluster|slots' command."""

_IN_SCRIPT = re.compile(r"^(ERR )?(ACL failure in script|The user executing the script can't run)")
"""Valkey's and Redis's texts for a forbidden command in a script."""

_OF_A_STRANGER = re.compile(r"^(ERR )?Protocol error: unauthenticated (multi)?bulk length")
"""Redis 7.0's text for a command of more than ten words before authentication."""

_PIPELINE = re.compile(r"^Command # \d+ \(([A-Z]{2,20})\b")
_PIPELINE_ERROR = " of pipeline caused error: "
_NOTE = "command_of_ours"
_NODE = "node_of_ours"

CURES: Mapping[str, str] = {
    "NOPERM": "give its user that command and the keys seg:1:* (ACL SETUSER)",
    "WRONGPASS": "correct the user and the password in the store's URL",
    "NOAUTH": "put a user and a password into the store's URL",
    "MISCONF": "it can't save its data and refuses to write: see its log, its disk and its folder",
    "OOM": "its maxmemory is reached: raise it",
    "LOADING": "it still reads its data from disk; that passes",
    "READONLY": "it is a replica: name its master, or its Sentinels, in the store's URL",
    "MASTERDOWN": "it is a replica without its master: see why that is away",
    "NOREPLICAS": "it has fewer replicas than min-replicas-to-write wants: bring them back",
    "CLUSTERDOWN": "slots of the cluster have no master: bring the nodes back",
    "MOVED": "it is a node of a Cluster: name it by redis+cluster://",
    "BUSY": "a running script blocks it; that passes, or needs SCRIPT KILL",
}
"""Advice to the operator by error code."""


class Refusal(NamedTuple):
    """An error reply of the store."""

    code: str
    command: str = ""
    """In capitals; empty: unknown."""

    def __str__(self) -> str:
        return f"{self.code} to {self.command}" if self.command else self.code

    @property
    def with_cure(self) -> str:
        """The same with the advice."""
        cure = CURES.get(self.code)
        return f"{self}; {cure}" if cure else str(self)


def error_code(error: object) -> str:
    """Return the first word of an error: `NOPERM`, `LOADING`, `MOVED`."""
    text = str(error)
    return "NOAUTH" if _OF_A_STRANGER.search(text) else text.partition(" ")[0]


def why_refused(error: ResponseError) -> str:
    """Return an error's code, the command if known, and the advice."""
    refusal = refusal_of(error)
    return type(error).__name__ if refusal is None else refusal.with_cure


def note_command(error: RedisError, command: object, node: str = "") -> None:
    """
    Note the sent command on an error, and the node of a Cluster.

    redis-py names only pipelines' commands, and no node.
    """
    name = command.decode() if isinstance(command, bytes) else str(command)
    setattr(error, _NOTE, name)
    setattr(error, _NODE, node)


def node_of(error: BaseException) -> str:
    """Return the host and port noted on an error, if any."""
    return str(getattr(error, _NODE, ""))


def refusal_of(error: BaseException | None) -> Refusal | None:
    """Return the store's error from below redis-py's wrappers; `None`: the store sent none."""
    for each in _behind(error):
        text = str(each).rpartition(_PIPELINE_ERROR)[2]
        code = each.status_code or (error_code(text) if type(each) is ResponseError else "")
        if _IN_SCRIPT.search(text):
            code = "NOPERM"
        elif _OF_A_STRANGER.search(text):
            code = "NOAUTH"
        if _CODE.fullmatch(code):
            return Refusal(code, _command(each, code))
    return None


def in_words(error: BaseException) -> str:
    """Say whether the store refuses or can't be reached."""
    refusal = refusal_of(error)
    if refusal is not None:
        return f"the store refuses: {refusal.with_cure}"
    return "the store can't be reached"


def _behind(error: BaseException | None) -> Iterator[RedisError]:
    while error is not None:
        if isinstance(error, RedisError):
            yield error
        error = error.__cause__ or error.__context__


def _command(error: RedisError, code: str) -> str:
    if code == "WRONGPASS":
        return "AUTH"  # redis-py authenticates before it sends the command
    found = _REFUSED.search(str(error)) or _PIPELINE.search(str(error))
    if found is None:
        return str(getattr(error, _NOTE, ""))
    return found[1].upper().replace("|", " ")
