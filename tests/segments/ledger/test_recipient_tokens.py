from hashlib import sha256

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import recipient_tokens, recipients
from segments.ledger.recipients import Recipient
from segments.ledger.revision import revision
from segments.model.refusal import NotFound, Refusal
from tests.ledger_seed import NOW_S, seed


async def good(conn: AsyncConnection, recipient: Recipient) -> set[str]:
    digests = await recipient_tokens.good_digests(conn)
    return set(digests.get(recipient.id, ()))


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


async def test_two_tokens_are_good_at_a_time_and_the_older_goes_first(ledger: AsyncEngine) -> None:
    dsp = (await seed(ledger)).dsp

    async with ledger.begin() as conn:
        _, first = await recipient_tokens.issue(conn, dsp, is_needed=True, now_s=NOW_S)
        _, second = await recipient_tokens.issue(conn, dsp, is_needed=True, now_s=NOW_S)
        with pytest.raises(Refusal, match=r"2 good tokens already; revoke one \(1, 2\)"):
            await recipient_tokens.issue(conn, dsp, is_needed=True, now_s=NOW_S)
        assert await good(conn, dsp) == {digest(first), digest(second)}

        _, third = await recipient_tokens.rotate(conn, dsp, now_s=NOW_S)
        assert await good(conn, dsp) == {digest(second), digest(third)}

    assert len({first, second, third}) == 3
    assert all(token.startswith("rtbr_") and len(token) > 40 for token in (first, second, third))


async def test_recipient_whose_tokens_are_revoked_still_needs_one(ledger: AsyncEngine) -> None:
    dsp = (await seed(ledger)).dsp

    async with ledger.begin() as conn:
        await recipient_tokens.issue(conn, dsp, is_needed=True, now_s=NOW_S)
        assert await recipient_tokens.revoke(conn, dsp, 1, now_s=NOW_S)
        before = await revision(conn)
        assert not await recipient_tokens.revoke(conn, dsp, 1, now_s=NOW_S), "once more"
        assert await revision(conn) == before
        left = await good(conn, dsp)
        locked = await recipients.recipient(conn, "dsp-a")
        await recipient_tokens.issue(conn, dsp, is_needed=False, now_s=NOW_S)
        still = await recipients.recipient(conn, "dsp-a")
        await recipient_tokens.waive(conn, dsp, now_s=NOW_S)
        opened = await recipients.recipient(conn, "dsp-a")
        assert not await good(conn, dsp), "a token that nobody asks for is no door left open"

    assert not left
    assert (locked.needs_token, still.needs_token, opened.needs_token) == (True, True, False)


async def test_token_can_be_handed_over_before_it_is_needed(ledger: AsyncEngine) -> None:
    dsp = (await seed(ledger)).dsp

    async with ledger.begin() as conn:
        await recipient_tokens.issue(conn, dsp, is_needed=False, now_s=NOW_S)
        before = await recipients.recipient(conn, "dsp-a")
        await recipient_tokens.need(conn, dsp)
        after = await recipients.recipient(conn, "dsp-a")

    assert (before.needs_token, after.needs_token) == (False, True)


async def test_token_of_another_recipient_is_not_found(ledger: AsyncEngine) -> None:
    dsp = (await seed(ledger)).dsp

    async with ledger.begin() as conn:
        other = await recipients.add_recipient(conn, "dsp-b", now_s=NOW_S)
        await recipient_tokens.issue(conn, dsp, is_needed=True, now_s=NOW_S)
        with pytest.raises(NotFound, match="recipient dsp-b has no token 1"):
            await recipient_tokens.revoke(conn, other, 1, now_s=NOW_S)
        assert await good(conn, dsp)


async def test_each_change_of_tokens_changes_the_catalog(ledger: AsyncEngine) -> None:
    dsp = (await seed(ledger)).dsp

    async with ledger.begin() as conn:
        seen = [await revision(conn)]
        for change in (
            recipient_tokens.issue(conn, dsp, is_needed=True, now_s=NOW_S),
            recipient_tokens.rotate(conn, dsp, now_s=NOW_S),
            recipient_tokens.revoke(conn, dsp, 1, now_s=NOW_S),
            recipient_tokens.waive(conn, dsp, now_s=NOW_S),
            recipient_tokens.need(conn, dsp),
        ):
            await change
            seen.append(await revision(conn))

    assert seen == list(range(seen[0], seen[0] + 6))
