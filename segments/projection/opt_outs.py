"""
Opt-outs from the command line: recorded in the ledger, and put into force.
"""

import time
from collections.abc import Sequence

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.privacy import opt_outs
from segments.model.identity import Id, IdentifierKind
from segments.model.record import OptOutAction
from segments.projection.in_force import Receipt, put_into_force


async def record_opt_out(
    ledger: AsyncEngine,
    redis: Redis,
    action: OptOutAction,
    ids: Sequence[tuple[IdentifierKind, Id]],
    account_id: int | None = None,
    *,
    jurisdiction: str | None = None,
    submitter: str | None = None,
) -> Receipt:
    """
    Record a person's opt-out, and apply it to the store if the store takes writes.

    Until an hour in force, a repetition counts as the same request.

    Args:
        ledger: The system of record.
        redis: The store.
        action: RESTRICT, or ERASURE.
        ids: Of the person; at least one.
        account_id: The submitting account; `None`: global.
        jurisdiction: Only recorded.
        submitter: Likewise.

    Raises:
        Refusal: The request can't be recorded as it is.
    """
    return await record_opt_outs(
        ledger,
        redis,
        action,
        [ids],
        account_id,
        jurisdiction=jurisdiction,
        submitter=submitter,
    )


async def record_opt_outs(
    ledger: AsyncEngine,
    redis: Redis,
    action: OptOutAction,
    persons: Sequence[Sequence[tuple[IdentifierKind, Id]]],
    account_id: int | None = None,
    *,
    jurisdiction: str | None = None,
    submitter: str | None = None,
) -> Receipt:
    """
    Record a request for each of some persons, all or none, like `record_opt_out`.

    Raises:
        Refusal: A request can't be recorded as it is.
    """
    async with ledger.begin() as conn:
        requests = await opt_outs.record(
            conn,
            action,
            persons,
            account_id,
            jurisdiction=jurisdiction,
            submitter=submitter,
            now_s=time.time(),
        )
    return await put_into_force(ledger, redis, requests)
