"""
A request that is sent twice is carried out once, where it carries an `Idempotency-Key`.

The first answer of success is kept with the key for a day, and given again, with
`Idempotency-Replayed: true`. What failed did nothing and may be tried again with
the same key. A key belongs to one operation of one caller; used for another
request it is refused (422), and while its first request is at work, too (409):
as draft-ietf-httpapi-idempotency-key-header has it.

Between the two transactions, of the request and of its answer, a process may die:
then the key is free after a minute, and whoever comes again meets what there is,
which for a creation is the vendor's "exists already".
"""

import hashlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from segments.doors.rest.auth import Caller
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.ledger import idempotency_keys

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
MAX_KEY_CHARS = 255


class Once:
    """Carries requests out once."""

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
        Answer a request, by `do` or as its twin was answered before.

        Args:
            request: Its body was read.
            caller: Who asks.
            operation_id: What for.
            do: Carries it out.

        Raises:
            Problem: 400, 409 or 422: the key can't be used. Or what `do` raises.
        """
        key = request.headers.get(HEADER)
        if key is None:
            return await do()
        if not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
            raise Problem(400, f"{HEADER} is not 1 to {MAX_KEY_CHARS} printable characters")
        scope = f"{caller.account.id}/{caller.who}/{operation_id}"
        sent = hashlib.sha256(request.path.encode() + b"\0" + await request.read()).digest()
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
