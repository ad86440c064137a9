"""
The audit trail: who asked what of whose data, when, and what came of it.

    who      a token by its number, a key by domain and kid, the command line, or
             nobody that we know
    what     RESTRICT, ERASURE, ACCESS, read, search, download, authenticate;
             and what people did by their own hand: token create, key add, and all of
             `segments.acts`, with what it was done to
    whose    salted digests of the ids, so that "was this person's request carried
             out?" can be answered and "whose requests were there?" can't
    result   done or refused, and why

Rows are added in the transaction of what they tell of, so neither is there
without the other, and are never changed: the tables' triggers see to that, for
us as for whoever sits at the database. The salt is the ledger's own and leaves
it by no export.
"""

import hmac
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.signing_secrets import own_secret
from segments.ledger.tables import audit as _audit
from segments.model.identity import Id

_SALT = "audit"
_DIGEST_BYTES = 16
_PAGE = 1000


class Actor(StrEnum):
    """What sort of actor it was."""

    TOKEN = "token"  # of the Privacy API  # noqa: S105 - a word, not a token
    KEY = "key"  # a JWT of its legacy doors
    COMMAND_LINE = "command line"
    UNKNOWN = "unknown"  # has not shown who they are


class Who(NamedTuple):
    """Who did it."""

    actor: Actor
    name: str | None = None
    account_id: int | None = None


COMMAND_LINE = Who(Actor.COMMAND_LINE)
UNKNOWN = Who(Actor.UNKNOWN)


class Entry(NamedTuple):
    """One thing that was done, or refused."""

    what: str
    refused_because: str | None = None  # none: it was done
    ids: Collection[Id] = ()
    scope_id: int | None = None  # the account it reaches as far as; none: everything
    transaction_id: str | None = None
    times: int = 1
    target: str | None = None  # what it was done to, as people call it
    detail: Mapping[str, Any] | None = None  # how; never a secret


async def add(conn: AsyncConnection, who: Who, entries: Iterable[Entry], *, now_s: float) -> None:
    """
    Add entries.

    Args:
        conn: The transaction of what they tell of.
        who: Did it.
        entries: In their order.
        now_s: When.
    """
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
            "subjects": sorted(_digest(salt, id_) for id_ in entry.ids),
            "times": entry.times,
            "target": entry.target,
            "detail": None if entry.detail is None else dict(entry.detail),
        }
        for entry in entries
    ]
    await conn.execute(insert(_audit), rows)


async def digest_of(conn: AsyncConnection, id_: Id, *, now_s: float) -> str:
    """Return what the trail calls an id. `conn` is a transaction."""
    return _digest(await own_secret(conn, _SALT, now_s=now_s), id_)


async def entries(conn: AsyncConnection, *, since_s: float = 0.0) -> AsyncIterator[dict[str, Any]]:
    """Yield the rows since a moment, the oldest first, as they are but for empty members."""
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
    """Tell whether somebody has done the same since a moment, by what, target and scope."""
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


def _digest(salt: bytes, id_: Id) -> str:
    return hmac.digest(salt, id_, "sha256")[:_DIGEST_BYTES].hex()
