"""
Requests with an `Idempotency-Key`: a repeated request is carried out once.

The first successful answer is kept with the key for a day, and returned again with
`Idempotency-Replayed: true`. A failed request has changed nothing, and may be retried with
the same key. A key belongs to an operation and a caller. With another request it is refused
(422), as is a repetition during the first request (409):
draft-ietf-httpapi-idempotency-key-header.

If the process dies between the request's transaction and its answer's, the key is free after a
minute, and a retry finds the first request's effect: for a creation, the vendor's "exists already".
"""

import hashlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from segments.doors.rest.auth import Caller
from segments.doors.rest.bodies import body_of
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.ledger import idempotency_keys

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
MAX_KEY_CHARS = 255


class Once:
    """Carries out each request with a key once."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(
        self,
        request: web.Request,
        caller: Caller,
        operation_id: str,
        do: Callable[[], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """
        Answer a request, by `do` or with the answer kept for its key.

        Raises:
            Problem: 400, 409 or 422: the key can't be used. Or any problem of `do`.
        """
        key = request.headers.get(HEADER)
        if key is None:
            return await do()
        if not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
            raise Problem(400, f"{HEADER} is not 1 to {MAX_KEY_CHARS} printable characters")
        scope = f"{caller.account.id}/{caller.who}/{operation_id}"
        sent = hashlib.sha256(request.path.encode() + b"\0" + await body_of(request)).digest()
        now_s = self._services.now_s()
        async with self._services.ledger.begin() as conn:
            kept = await idempotency_keys.begin(conn, scope, key, sent, now_s=now_s)
        if kept is not None:
            return _again(kept, sent)
        try:
            answer = await do()
        except BaseException:
            async with self._services.ledger.begin() as conn:
                await idempotency_keys.release(conn, scope, key)
            raise
        assert isinstance(answer, web.Response), "what is created once is told in one piece"
        async with self._services.ledger.begin() as conn:
            await idempotency_keys.keep(conn, scope, key, answer.status, answer.text or "")
        return answer


def _again(kept: idempotency_keys.KeptAnswer, sent: bytes) -> web.Response:
    if kept.request_sha256 != sent:
        raise Problem(422, f"this {HEADER} was used for another request")
    if kept.status is None:
        raise Problem(409, f"the first request of this {HEADER} is still at work")
    return web.Response(
        text=kept.body,
        status=kept.status,
        content_type="application/json",
        headers={REPLAYED: "true"},
    )
