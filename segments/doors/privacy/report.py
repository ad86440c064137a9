"""
The report of an access request: all that is held about its ids.

    {"transactionId": "...", "madeAt": "...", "scope": {...}, "identifiers": [
      {"position": 1, "kind": "email",
       "memberships": [{"audience": {...}, "owner": {...}, "partner": {...}, "expiresOn": "..."}],
       "optOuts":     [{"action": "RESTRICT", "scope": {...}, "since": "..."}],
       "requests":    [{"action": "ACCESS", "transactionId": "...", "createdAt": "...", ...}]}]}

Ids are given by position in the request, never by value, so that a lost report identifies a
person only to holders of the request.

Memberships that are erased in the ledger are left out, even if still in the store. An ERASURE after
the snapshot raises the request's version, and the report is discarded.
"""

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import orjson
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.doors.privacy.scope import told
from segments.ledger import accounts, audiences
from segments.ledger.database.engine import reading
from segments.ledger.privacy import access_requests, subject_requests
from segments.ledger.privacy.access_requests import Access, SubjectId
from segments.ledger.privacy.subject_requests import SubjectRequest
from segments.model.account import Account, AccountTree
from segments.model.audience import Audience
from segments.model.identity import Id
from segments.model.record import NO_EXPIRY, CorruptRecord, Membership, OptOutAction, Record
from segments.store.reader import Meta, read_meta, read_records

_DAY_ZERO = date(2020, 1, 1)
_MAX_REQUESTS = 10_000
"""Per id: far more than a person makes, but a bound."""


class _Held(NamedTuple):
    """A snapshot of the ledger's data about the ids."""

    ids: list[SubjectId]
    id_to_requests: dict[Id, list[SubjectRequest]]
    tree: AccountTree
    id_to_audience: dict[int, Audience]


def iso(at_s: float) -> str:
    """Return a Unix time in the form of the answers."""
    moment = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
    return moment.replace("+00:00", "Z")


async def report(
    ledger: AsyncEngine, redis: Redis, request: Access, *, now_s: float
) -> tuple[Access, bytes] | None:
    """
    Make a report.

    Returns:
        The request as of the report's snapshot, and the report; `None` if the request is no
        longer pending.

    Raises:
        segments.store.reader.StoreUnusable, redis.exceptions.RedisError: Try again later.
    """
    async with reading(ledger) as conn:
        current = await access_requests.find(conn, request.transaction_id)
        if current is None or current.state is not access_requests.AccessRequestState.PENDING:
            return None
        held = await _held(conn, current)
    meta = await read_meta(redis)
    identifiers = [
        _identifier(position, each, await record_of(redis, meta, each.id), held, current)
        for position, each in enumerate(held.ids, 1)
    ]
    document = {
        "transactionId": current.transaction_id,
        "createdAt": iso(current.created_at_s),
        "madeAt": iso(now_s),
        "jurisdiction": current.jurisdiction,
        "scope": _scope(held.tree, current.account_id),
        "identifiers": identifiers,
    }
    return current, orjson.dumps(document, option=orjson.OPT_INDENT_2)


async def _held(conn: AsyncConnection, request: Access) -> _Held:
    ids = await access_requests.ids_of(conn, request.id)
    return _Held(
        ids,
        {
            each.id: await subject_requests.of_ids(conn, [each.id], None, limit=_MAX_REQUESTS)
            for each in ids
        },
        await accounts.tree(conn),
        {audience.id: audience for audience in await audiences.audiences(conn)},
    )


async def record_of(redis: Redis, meta: Meta, id_: Id) -> Record | None:
    """Return the record of an id; `None` if it can't be read."""
    try:
        return (await read_records(redis, meta, [id_]))[0]
    except CorruptRecord:
        return None


def _identifier(
    position: int, subject: SubjectId, record: Record | None, held: _Held, request: Access
) -> dict[str, Any]:
    tree = held.tree
    requests = held.id_to_requests[subject.id]
    is_everything = request.account_id is None
    visible = None if request.account_id is None else tree.within(request.account_id)
    owners = None if request.account_id is None else tree.erased_by(request.account_id)
    told_requests = [each for each in requests if visible is None or each.account_id in visible]
    document: dict[str, Any] = {"position": position, "kind": subject.kind.value}
    if record is None:
        # A corrupt record can't be reported; bids are not enriched from it either.
        document["unreadable"] = True
    memberships = () if record is None else record.memberships
    erased = _erased(tree, requests)
    document["memberships"] = [
        _membership(membership, held)
        for membership in memberships
        if not _is_erased(owner := _owner_id(membership, held), erased)
        and (is_everything or (owners is not None and owner in owners))
    ]
    document["optOuts"] = [
        {
            "action": each.action,
            "scope": _scope(tree, each.account_id),
            "since": iso(each.created_at_s),
        }
        for each in told_requests
        if each.access is None
    ]
    document["requests"] = [
        {
            "transactionId": each.transaction_id,
            "action": each.action,
            "createdAt": iso(each.created_at_s),
            "jurisdiction": each.jurisdiction,
            "submitter": each.submitter,
            "scope": _scope(tree, each.account_id),
            "status": each.status,
        }
        for each in told_requests
        if each.transaction_id != request.transaction_id
    ]
    return document


def _erased(tree: AccountTree, requests: list[SubjectRequest]) -> Collection[int] | None:
    """Return the owners whose memberships are erased by the ledger; `None` for all owners."""
    erasing = [each.account_id for each in requests if each.action == OptOutAction.ERASURE.name]
    if None in erasing:
        return None
    return {
        owner
        for account_id in erasing
        if account_id is not None
        for owner in tree.erased_by(account_id)
    }


def _is_erased(owner_id: int | None, erased: Collection[int] | None) -> bool:
    return erased is None or owner_id in erased


def _owner_id(membership: Membership, held: _Held) -> int | None:
    audience = held.id_to_audience.get(membership.audience_id)
    return None if audience is None else audience.owner_id


def _membership(membership: Membership, held: _Held) -> dict[str, Any]:
    is_for_good = membership.expiry_day == NO_EXPIRY
    expires = None if is_for_good else _DAY_ZERO + timedelta(days=membership.expiry_day)
    said: dict[str, Any] = {"expiresOn": None if expires is None else expires.isoformat()}
    audience = held.id_to_audience.get(membership.audience_id)
    if audience is None:
        # The store was filled from another ledger.
        return {"audience": {"number": membership.audience_id}, **said}
    return {
        "audience": {
            "number": audience.id,
            "segmentId": audience.segment_id,
            "name": audience.name,
            "state": audience.state.value,
        },
        "owner": _account(held.tree.account(audience.owner_id)),
        "partner": _account(held.tree.account(audience.partner_id)),
        **said,
    }


def _account(account: Account) -> dict[str, str]:
    return {"id": account.public_id, "name": account.name}


def _scope(tree: AccountTree, account_id: int | None) -> dict[str, Any]:
    return told(tree, account_id).model_dump(exclude_none=True)
