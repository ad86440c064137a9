"""
The audit trail: who asked for what, about whose data, when, and with which result.

    who      a token by its number, a key by domain and kid, a user or staff by name, the
             command line, or an unknown actor
    what     RESTRICT, ERASURE, ACCESS, read, search, download, authenticate; and
             manual acts: token create, key add, and all others of `segments.acts`,
             with their target
    whose    salted digests of the ids: they answer "was this person's request carried
             out?", but not "which persons made requests?"
    result   done or refused, and why

Rows are added in the transaction that they describe. Triggers enforce, against anyone with access
to the database, that they never change. The ledger's own salt is in no export.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.signing_secrets import own_secret
from segments.ledger.tables import audit as _audit
from segments.model.explained_bid import trail_digest
from segments.model.identity import Id

_SALT = "audit"
_PAGE = 1000


class Actor(StrEnum):
    """The kind of actor."""

    TOKEN = "token"  # of the Privacy API  # noqa: S105 - a word, not a token
    KEY = "key"  # a JWT of its legacy doors
    COMMAND_LINE = "command line"
    USER = "user"  # of a partner, at the console or by the API
    STAFF = "staff"  # of the deployment, at the console
    UNKNOWN = "unknown"  # not authenticated


class Who(NamedTuple):
    """The actor."""

    actor: Actor
    name: str | None = None
    account_id: int | None = None


COMMAND_LINE = Who(Actor.COMMAND_LINE)
UNKNOWN = Who(Actor.UNKNOWN)


class Entry(NamedTuple):
    """An act, done or refused."""

    what: str
    refused_because: str | None = None  # `None`: done
    ids: Collection[Id] = ()
    subjects: Collection[str] = ()  # digests that another process made, under `trail_key`
    scope_id: int | None = None  # the account in scope; `None`: everything
    transaction_id: str | None = None
    times: int = 1
    target: str | None = None  # the target's public name
    detail: Mapping[str, Any] | None = None  # parameters; never a secret


async def add(conn: AsyncConnection, who: Who, entries: Iterable[Entry], *, now_s: float) -> None:
    """Add entries, in order. `conn` is the transaction that they describe."""
    salt = await own_secret(conn, _SALT, now_s=now_s)
    rows = [
        {
            "at_s": now_s,
            "actor": who.actor.value,
            "actor_name": who.name,
            "account_id": who.account_id,
            "what": entry.what,
            "result": "done" if entry.refused_because is None else "refused",
            "reason": entry.refused_because,
            "scope_id": entry.scope_id,
            "transaction_id": entry.transaction_id,
            "subjects": sorted({trail_digest(salt, id_) for id_ in entry.ids} | {*entry.subjects}),
            "times": entry.times,
            "target": entry.target,
            "detail": None if entry.detail is None else dict(entry.detail),
        }
        for entry in entries
    ]
    await conn.execute(insert(_audit), rows)


async def digest_of(conn: AsyncConnection, id_: Id, *, now_s: float) -> str:
    """Return the trail's digest of an id. `conn` is a transaction."""
    return trail_digest(await own_secret(conn, _SALT, now_s=now_s), id_)


async def trail_key(conn: AsyncConnection, *, now_s: float) -> bytes:
    """
    Return the key of the trail's digests, for a process without the ledger.

    It must not be kept, logged or shown: it finds a known id in an export.
    """
    return await own_secret(conn, _SALT, now_s=now_s)


async def entries(conn: AsyncConnection, *, since_s: float = 0.0) -> AsyncIterator[dict[str, Any]]:
    """Yield the rows since `since_s`, oldest first, without empty members."""
    after_id = 0
    while True:
        asked = (
            select(_audit)
            .where(_audit.c.id > after_id, _audit.c.at_s >= since_s)
            .order_by(_audit.c.id)
            .limit(_PAGE)
        )
        rows = (await conn.execute(asked)).all()
        for row in rows:
            yield {str(name): value for name, value in row._asdict().items() if value is not None}
        if len(rows) < _PAGE:
            return
        after_id = rows[-1].id


async def was_done(conn: AsyncConnection, who: Who, entry: Entry, *, since_s: float) -> bool:
    """Tell whether the actor did the same since `since_s`, by what, target and scope."""
    asked = select(_audit.c.id).where(
        _audit.c.at_s >= since_s,
        _audit.c.actor == who.actor.value,
        _audit.c.actor_name.is_not_distinct_from(who.name),
        _audit.c.what == entry.what,
        _audit.c.result == "done",
        _audit.c.target == entry.target,
        _audit.c.scope_id.is_not_distinct_from(entry.scope_id),
    )
    return await conn.scalar(asked.limit(1)) is not None
