"""
Queries of a person's requests: opt-outs and access requests alike.

A request's scope account decides on its visibility. `visible_to` holds the accounts whose
requests are returned; `None` returns all, global requests too.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.privacy import access_requests
from segments.ledger.privacy.access_requests import Access, AccessRequestState, SubjectId
from segments.ledger.privacy.opt_outs import OF_STORE
from segments.ledger.tables import data_subject_ids as _ids
from segments.ledger.tables import data_subject_requests as _requests
from segments.model.identity import Id, IdentifierKind, email_hash_of

ACCESS = "ACCESS"
_IDS_AT_ONCE = 1000

Visible = Collection[int] | None


class SubjectRequest(NamedTuple):
    """A request of any action."""

    transaction_id: str
    action: str
    account_id: int | None  # the scope; `None`: everything
    jurisdiction: str | None
    submitter: str | None
    callback: str | None
    token_id: int | None
    created_at_s: float
    status: str
    email_hashes: tuple[str, ...]
    access: Access | None = None
    kinds: tuple[IdentifierKind, ...] = ()  # of its ids
    applied_at_s: float | None = None  # an opt-out's: in force since; `None`: not yet
    reference: str | None = None


async def find(
    conn: AsyncConnection, transaction_id: str, visible_to: Visible
) -> SubjectRequest | None:
    """Return a visible request by its transaction id."""
    access = await access_requests.find(conn, transaction_id)
    if access is not None:
        found = await _told_access(conn, [access])
    else:
        found = await _told(conn, _requests.c.transaction_id == transaction_id, limit=1)
    return next(iter(_visible(found, visible_to)), None)


async def of_ids(
    conn: AsyncConnection, ids: Sequence[Id], visible_to: Visible, *, limit: int
) -> list[SubjectRequest]:
    """Return the visible requests that name any of these ids, newest first."""
    found = await _told_access(conn, await access_requests.of_ids(conn, ids, limit))
    seen: set[str] = set()
    for at in range(0, len(ids), _IDS_AT_ONCE):
        naming = select(_ids.c.seq).where(_ids.c.id.in_(ids[at : at + _IDS_AT_ONCE]))
        page = await _told(conn, _requests.c.seq.in_(naming), limit=limit)
        found += [each for each in page if each.transaction_id not in seen]
        seen |= {each.transaction_id for each in page}
    visible = _visible(found, visible_to)
    return sorted(visible, key=lambda each: each.created_at_s, reverse=True)[:limit]


def _visible(found: Iterable[SubjectRequest], visible_to: Visible) -> list[SubjectRequest]:
    return [each for each in found if visible_to is None or each.account_id in visible_to]


async def _told_access(conn: AsyncConnection, found: Iterable[Access]) -> list[SubjectRequest]:
    told = []
    for access in found:
        ids = await access_requests.ids_of(conn, access.id)
        request = SubjectRequest(
            access.transaction_id,
            ACCESS,
            access.account_id,
            access.jurisdiction,
            access.submitter,
            access.callback,
            access.token_id,
            access.created_at_s,
            access.state.value,
            _hashes(ids),
            access,
            tuple(each.kind for each in ids),
            reference=access.reference,
        )
        told.append(request)
    return told


async def _told(
    conn: AsyncConnection, which: ColumnElement[bool], *, limit: int
) -> list[SubjectRequest]:
    asked = select(_requests).where(which).order_by(_requests.c.seq.desc()).limit(limit)
    rows = (await conn.execute(asked)).all()
    seq_to_ids: dict[int, list[SubjectId]] = {row.seq: [] for row in rows}
    seqs = list(seq_to_ids)
    for at in range(0, len(seqs), _IDS_AT_ONCE):
        naming = select(_ids).where(
            _ids.c.seq.in_(seqs[at : at + _IDS_AT_ONCE]), _ids.c.kind != OF_STORE
        )
        for each in await conn.execute(naming.order_by(_ids.c.seq, _ids.c.id)):
            seq_to_ids[each.seq].append(
                SubjectId(IdentifierKind(each.kind), Id(each.id), each.tail)
            )
    return [_request(row, seq_to_ids[row.seq]) for row in rows]


def _request(row: Row[Any], ids: Sequence[SubjectId]) -> SubjectRequest:
    # Recorded for good; in force once every bid is answered with it.
    status = (
        AccessRequestState.PENDING if row.applied_at_s is None else AccessRequestState.COMPLETED
    )
    return SubjectRequest(
        row.transaction_id,
        row.action,
        row.account_id,
        row.jurisdiction,
        row.submitter,
        row.callback,
        row.token_id,
        row.created_at_s,
        status.value,
        _hashes(ids),
        kinds=tuple(each.kind for each in ids),
        applied_at_s=row.applied_at_s,
        reference=row.reference,
    )


def _hashes(ids: Iterable[SubjectId]) -> tuple[str, ...]:
    # Without a tail: from the command line, or from before tails were kept.
    return tuple(
        email_hash_of(each.id, each.tail or b"")
        for each in ids
        if each.kind is IdentifierKind.EMAIL
    )
