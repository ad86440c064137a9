"""
Asks bid listeners why a bid ended as it did (`POST /explain` of `rtb.server.explain_endpoint`).

If two answer differently, that is the finding. A listener that does not answer is reported as such.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import aiohttp
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine
from yarl import URL

from segments.acts import bids
from segments.acts.trail import By
from segments.ledger.privacy.audit import trail_key
from segments.model.explained_bid import Asked, Explanation
from segments.upkeep.listeners import Listeners

_WITHIN_S = 8.0
"""A listener gives up after 5 s, and says so."""


class Answer(NamedTuple):
    """A listener's answer: an explanation, or why there is none."""

    url: str
    explanation: Explanation | None = None
    trouble: str = ""


async def explain(
    ledger: AsyncEngine,
    by: By,
    asked: Asked,
    ask: Callable[[Asked], Awaitable[list[Answer]]],
) -> list[Answer]:
    """
    Ask for explanations of a bid; the trail gets a row before the answers are returned.

    `ask` puts the question to listeners, with the trail's key.
    """
    async with ledger.begin() as conn:
        key = await trail_key(conn, now_s=by.now_s)
    asked = msgspec.structs.replace(asked, trail_key=key.hex())
    answers = await ask(asked)
    given = [answer.explanation for answer in answers if answer.explanation is not None]
    async with ledger.begin() as conn:
        await bids.explain(conn, by, asked, given)
    return answers


async def ask_all(listeners: Listeners, asked: Asked) -> list[Answer]:
    """Return the answer of each listener, in order."""
    if listeners.secret is None:
        return [Answer(url, trouble=_UNSET) for url in listeners.urls]
    headers = {"Authorization": f"Bearer {listeners.secret}"}
    within = aiohttp.ClientTimeout(total=_WITHIN_S)
    async with aiohttp.ClientSession(headers=headers, timeout=within) as session:
        body = msgspec.json.encode(asked)
        return list(await asyncio.gather(*(_ask(session, url, body) for url in listeners.urls)))


def differ(answers: Sequence[Answer]) -> bool:
    """Tell whether listeners explain a bid differently, but for its moment."""
    given = [answer.explanation for answer in answers if answer.explanation is not None]
    return len({msgspec.json.encode(msgspec.structs.replace(one, at_s=0.0)) for one in given}) > 1


async def _ask(session: aiohttp.ClientSession, url: str, body: bytes) -> Answer:
    try:
        asked = session.post(URL(url) / "explain", data=body, allow_redirects=False)
        async with asked as answer:
            said = await answer.read()
    except TimeoutError:
        return Answer(url, trouble=f"it does not answer within {_WITHIN_S:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Answer(url, trouble=f"it can't be reached ({type(error).__name__})")
    return _answer(url, answer.status, said)


def _answer(url: str, status: int, said: bytes) -> Answer:
    try:
        if status == 200:
            return Answer(url, msgspec.json.decode(said, type=Explanation))
        if status == 404:
            return Answer(url, trouble=_NO_SUCH_PATH)
        return Answer(url, trouble=msgspec.json.decode(said, type=_Problem).detail)
    except msgspec.DecodeError:
        return Answer(url, trouble=f"it answers {status}, and is no bid listener of this version")


class _Problem(msgspec.Struct):
    detail: str


_UNSET = "RTB_EXPLAIN_SECRET is not set here; set the same one here and at the listeners"
_NO_SUCH_PATH = "it has no RTB_EXPLAIN_SECRET; set the same one here and there"
