"""
`POST /explain` on the admin port: the console asks here why a bid ended as it did.

    body     a question (`segments.model.explained_bid.Asked`), JSON, at most 256 KiB
    200      an `Explanation`
    400      not such a question, or a recipient that does not exist
    401      without the bearer `RTB_EXPLAIN_SECRET`
    413      too large
    500      a fault of ours: the explanation contradicts the bid path; counted in `rtb_faults`
    503      the store does not answer, or two questions are being answered; try again later

Without the secret the path does not exist. The supervisor answers, since it has no bids to delay.
It adds the workers' state according to their metrics, because a worker that can't ask the store,
or trust it, answers otherwise.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from hmac import compare_digest
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from redis.exceptions import RedisError

from rtb.explain.explainer import Contradiction
from rtb.server.explaining import Explaining, UnknownRecipient
from rtb.settings import RtbSettings
from segments.model.explained_bid import Asked
from segments.runtime.bug_place import bug_place
from segments.store.error_code import in_words
from segments.store.reader import StoreUnusable
from segments.store.servers.connection import connect

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = logging.getLogger(__name__)

PATH = "/explain"
MAX_BYTES = 256 << 10
_AT_A_TIME = 2
_WITHIN_S = 5.0
_CONTRADICTS = "a fault of ours: the explanation contradicts the bid path, and is not given"


class ExplainEndpoint:
    """
    Answers questions, with the settings in force.

    Args:
        secret: The bearer token of permitted callers.
        settings: Of the workers.
        on_bug: Called for each explanation that fails by a bug of ours.
    """

    def __init__(self, secret: str, settings: RtbSettings, on_bug: Callable[[], None]) -> None:
        self._secret = secret.encode()
        self._on_bug = on_bug
        self._clients: list[Redis] = []
        self._answering = 0
        self.adopt(settings)

    def add_to(
        self, app: web.Application, unlike: Callable[[int], Sequence[str]] = lambda _: ()
    ) -> None:
        """
        Add the path to an application.

        `unlike` says why workers answer otherwise now than the store with a version of the catalog.
        """
        self._unlike = unlike
        app.router.add_post(PATH, self._answer)
        app.cleanup_ctx.append(self._closing)

    def adopt(self, settings: RtbSettings) -> None:
        """Explain by other settings from now on: the workers were replaced."""
        redis = connect(settings.store_url)
        self._clients.append(redis)
        self._explaining = Explaining(settings, redis)

    async def _closing(self, _: web.Application) -> AsyncIterator[None]:
        yield
        for redis in self._clients:
            await redis.aclose()

    async def _answer(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not compare_digest(token.strip().encode(), self._secret):
            return _problem(401, "the bearer is not RTB_EXPLAIN_SECRET", _BEARER)
        if self._answering >= _AT_A_TIME:
            return _problem(503, "two questions are being answered", _AGAIN)
        self._answering += 1
        try:
            async with asyncio.timeout(_WITHIN_S):
                return await self._explained(request)
        except TimeoutError:
            return _problem(503, f"no answer within {_WITHIN_S:g} s", _AGAIN)
        except StoreUnusable as unusable:
            return _problem(503, str(unusable), _AGAIN)
        except (RedisError, OSError) as error:
            return _problem(503, f"the store can't be read: {in_words(error)}", _AGAIN)
        except Exception as bug:  # noqa: BLE001 - only its place: its text may quote the request
            self._on_bug()
            _log.error("bug in explain: %s", bug_place(bug))
            is_ours = isinstance(bug, Contradiction)
            return _problem(500, _CONTRADICTS if is_ours else "a fault of ours; see our log")
        finally:
            self._answering -= 1

    async def _explained(self, request: web.Request) -> web.Response:
        if (request.content_length or 0) > MAX_BYTES:
            return _too_large()
        body = await request.read()  # bounded by the application
        if len(body) > MAX_BYTES:
            return _too_large()
        try:
            asked = msgspec.json.decode(body, type=Asked)
            bytes.fromhex(asked.trail_key)
        except ValueError:
            # A decoder's own message may quote the request.
            return _problem(400, "not a question: JSON of request, recipient, at_s, form")
        try:
            explanation = await self._explaining(asked)
        except UnknownRecipient as unknown:
            return _problem(400, str(unknown))
        if asked.at_s is None:
            workers = tuple(self._unlike(explanation.catalog_version))
            explanation = msgspec.structs.replace(explanation, workers=workers)
        return web.Response(
            body=msgspec.json.encode(explanation),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )


_BEARER: Final = {"WWW-Authenticate": "Bearer"}
_AGAIN: Final = {"Retry-After": "1"}


def _too_large() -> web.Response:
    answer = _problem(413, f"at most {MAX_BYTES} bytes")
    answer.force_close()
    return answer


def _problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an error as of RFC 9457."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/problem+json",
        headers=headers,
    )
