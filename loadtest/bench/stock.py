"""
A store of persons with an exact number of segments, for the sweeps of `scale`.

Unlike in `loadtest.population`, all persons are alike: costs differ only by the swept quantity.
"""

import hashlib
import time
from collections.abc import Sequence
from random import Random

import numpy as np
import numpy.typing as npt
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from loadtest.bench.checks import WrongAnswers, in_time, until_enriched
from loadtest.bench.values import values
from loadtest.driver import Exchange
from loadtest.population import SEES_ALL
from loadtest.servers import Server
from loadtest.traffic import BidRequest, plain_body
from rtb.outcome import Outcome, Reason
from segments.ledger import accounts, audiences, recipients
from segments.model.account import AccountKind
from segments.model.audience import change
from segments.model.identity import id_of_email_hash
from segments.model.record import Change
from segments.projection.catalog import catch_up, publish_catalog
from segments.settings import Settings
from segments.store.writer import Writer

PARTNERS = 4
SEGMENTS_PER_PARTNER = 50
"""An answer shows at most `RTB_MAX_SEGMENTS`, 64, of a partner."""
MOST_SEGMENTS = PARTNERS * SEGMENTS_PER_PARTNER

_IDS_AT_ONCE = 500_000


class Stock:
    """A store with `MOST_SEGMENTS` audiences."""

    def __init__(self, writer: Writer, changes: Sequence[Change]) -> None:
        self._writer = writer
        self._changes = changes

    async def put(self, ids: npt.NDArray[np.uint8], segments: int) -> None:
        """Make persons, an array of shape (n, 16), members of the first audiences."""
        # In bucket order, as by the loader: each bucket is written once.
        order = np.argsort(ids[:, :4].copy().view(">u4")[:, 0], kind="stable")
        for start in range(0, len(ids), _IDS_AT_ONCE):
            part = ids[order[start : start + _IDS_AT_ONCE]]
            await self._writer.merge(part, self._changes[:segments])


async def stock(ledger: AsyncEngine, redis: Redis, settings: Settings) -> Stock:
    """Lay the store out and publish the audiences."""
    meta = await catch_up(ledger, redis, settings.expected_ids)
    changes = []
    now_s = time.time()
    async with ledger.begin() as conn:
        recipient = await recipients.add_recipient(conn, SEES_ALL, now_s=now_s)
        for number in range(PARTNERS):
            name = f"scale-{number}"
            partner = await accounts.add_account(
                conn, AccountKind.ADVERTISER, name, f"{name}.example", now_s=now_s
            )
            await recipients.grant(conn, recipient, partner)
            tree = await accounts.tree(conn)
            for n in range(SEGMENTS_PER_PARTNER):
                segment_id = str(1_000 * (number + 1) + n)
                audience = await audiences.find_or_create_audience(
                    conn, partner, partner, segment_id, f"Segment {segment_id}", now_s=now_s
                )
                changes.append(change(audience, is_add=True, tree=tree, now_s=now_s))
    await publish_catalog(ledger, redis)
    return Stock(Writer(redis, meta), changes)


def email_hashes(group: str, count: int) -> list[str]:
    """Return the e-mail hashes of a group's persons."""
    return [hashlib.sha256(f"{group}-{n}@example.com".encode()).hexdigest() for n in range(count)]


def ids_of(hashes: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return their ids, an array of shape (n, 16)."""
    raw = b"".join(id_of_email_hash(digest) for digest in hashes)
    return np.frombuffer(raw, np.uint8).reshape(-1, 16)


def crowd(count: int, seed: int = 1) -> npt.NDArray[np.uint8]:
    """Return ids of persons that no request names."""
    return np.random.default_rng(seed).integers(0, 256, (count, 16), np.uint8)


def requests_of(hashes: Sequence[str], ids_each: int, size_bytes: int) -> list[BidRequest]:
    """Return requests that name `ids_each` persons, every person once."""
    return [
        BidRequest(
            index,
            SEES_ALL,
            plain_body(Random(index), index, hashes[at : at + ids_each], size_bytes),
            (),
            Reason.NONE,
            is_stripped=False,
        )
        for index, at in enumerate(range(0, len(hashes), ids_each))
    ]


async def asked(server: Server, requests: Sequence[BidRequest], segments: int) -> list[Exchange]:
    """
    Send requests, and check the number of segments that each answer adds.

    Raises:
        WrongAnswers: An answer does not.
    """
    await until_enriched(server, requests[0])
    exchanges = await in_time(server, requests)
    for request, exchange in zip(requests, exchanges, strict=True):
        answer = exchange.answer
        added = _segments_in(answer.body) - _segments_in(request.body)
        if answer.outcome != Outcome.ENRICHED or added != segments:
            raise WrongAnswers(
                f"request {request.index}: {answer.outcome!r}, {added} segments, {segments} are due"
            )
    return exchanges


def _segments_in(body: bytes) -> int:
    bid_request = values(body)
    assert isinstance(bid_request, dict)
    return sum(len(data.get("segment", ())) for data in bid_request["user"]["data"])
