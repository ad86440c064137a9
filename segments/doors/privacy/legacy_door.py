"""
The Privacy API's deprecated endpoints, still in use: requests as signed JWTs.

    POST /dsr    {"jwt": "..."} -> {"reference", "read", "imported"}
    POST /ping   checks key and clock with a JWT of type PING
    GET  /oath?dataSubjectRequest=<jwt>, GET /submit?dsr=<jwt>   -> a transparent pixel

The signature authenticates the request, so no bearer token is read: LiveIntent's own client
(`li-privacy` on PyPI) sends none, against the document. The rest is as for any request: see
`submission`.
"""

import base64

from aiohttp import web
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.doors.privacy.agent import (
    Agent,
    Refusals,
    SwitchedOff,
    active_account,
    agent_of_key,
)
from segments.doors.privacy.door import VendorsDoor
from segments.doors.privacy.jwt import (
    MAX_JWT_CHARS,
    BadRequest,
    Dsr,
    DsrType,
    NotTrusted,
    Signed,
    key_name,
    verified,
)
from segments.doors.privacy.schemas import MAX_IDS, DsrAction
from segments.doors.privacy.submission import Asked, Replayed, Submissions
from segments.doors.rest.door import operation
from segments.doors.rest.not_in_force import NotInForceYet
from segments.doors.rest.problem import Problem
from segments.doors.rest.schemas import Form
from segments.doors.rest.services import Services
from segments.ledger.database.engine import reading
from segments.ledger.privacy import keys as privacy_keys
from segments.ledger.privacy.access_requests import SubjectId
from segments.ledger.privacy.audit import Entry
from segments.ledger.privacy.keys import PrivacyKey
from segments.model.identity import (
    Id,
    IdentifierKind,
    UnusableId,
    id_of_email_hash,
    tail_of_email_hash,
)

OATH, SUBMIT = PIXELS = ("/oath", "/submit")
"""Paths with a signed request in the query: only their heads may be long."""

PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
"""A transparent GIF of 1x1."""

_MAX_BODY_BYTES = MAX_JWT_CHARS + 4096

_TYPE_TO_ACTION = {
    DsrType.OBJECT: DsrAction.RESTRICT,
    DsrType.RESTRICT: DsrAction.RESTRICT,
    DsrType.ERASURE: DsrAction.ERASURE,
    DsrType.ACCESS: DsrAction.ACCESS,
}


class LegacyDsrRequest(Form):
    """A signed request."""

    jwt: str = Field(max_length=MAX_JWT_CHARS)


class DsrResponse(Form):
    """The request was taken."""

    reference: str = Field(description="The request's transaction id.")
    read: int = Field(description="The number of identifiers that it names.")
    imported: int = Field(description="The number of different identifiers.")


class OathQuery(Form):
    """A signed request; whatever else a pixel's URL says is ignored."""

    dataSubjectRequest: str  # noqa: N815 - the document's spelling


class SubmitQuery(Form):
    """A signed request; whatever else a pixel's URL says is ignored."""

    dsr: str


class LegacyDoor(VendorsDoor):
    """Deprecated: data subject requests as JWTs. New clients submit to `/data-subject-requests`."""

    tag = "Privacy Management API, legacy"

    def __init__(
        self,
        services: Services,
        submissions: Submissions,
        refusals: Refusals,
        audience: str,
    ) -> None:
        """`audience` is the required `aud` of a JWT."""
        self._services = services
        self._audience = audience
        self._submissions = submissions
        self._refusals = refusals

    @operation(
        "POST",
        "/dsr",
        answers={200: DsrResponse},
        problems=(403, 503),
        max_body_bytes=_MAX_BODY_BYTES,
    )
    async def dsr(self, *, body: LegacyDsrRequest) -> DsrResponse:
        """
        Submit a signed request of one data subject.

        It is in force with the answer. A 503 says that it is recorded, but not in force
        yet; repeat the request to learn its state. Each request is accepted once.
        """
        return await self._take(body.jwt)

    @operation(
        "POST",
        "/ping",
        answers={200: DsrResponse},
        problems=(403,),
        max_body_bytes=_MAX_BODY_BYTES,
    )
    async def ping(self, *, body: LegacyDsrRequest) -> DsrResponse:
        """Try a key: a signed request of type PING, which changes nothing."""
        _, _, signed = await self._verified(body.jwt)
        if signed.dsr.type is not DsrType.PING:
            raise Problem(400, "the JWT's dsr.type is not PING", errorCode="NOT_A_PING")
        return DsrResponse(reference=signed.digest[:16].hex(), read=0, imported=0)

    @operation("GET", OATH, answers={200: None}, problems=(403, 503))
    async def oath(self, *, query: OathQuery) -> web.Response:
        """Submit a signed request by a pixel."""
        return await self._pixel(query.dataSubjectRequest)

    @operation("GET", SUBMIT, answers={200: None}, problems=(403, 503))
    async def submit(self, *, query: SubmitQuery) -> web.Response:
        """Submit a signed request by a pixel."""
        return await self._pixel(query.dsr)

    async def _pixel(self, token: str) -> web.Response:
        try:
            await self._take(token)
        except NotInForceYet as waits:
            # The body of a failed pixel is never read.
            return web.Response(status=waits.status, headers=waits.headers)
        return web.Response(body=PIXEL, content_type="image/gif")

    async def _take(self, token: str) -> DsrResponse:
        agent, key, signed = await self._verified(token)
        dsr = signed.dsr
        if dsr.type is DsrType.PING:
            raise Problem(400, "a PING is for POST /ping", errorCode="A_PING")
        given = _ids(dsr)
        ids = _distinct(given)
        asked = Asked(
            _TYPE_TO_ACTION[dsr.type],
            ids,
            jurisdiction=dsr.scope,
            submitter=key.domain,
            callback=_target(dsr),
        )

        async def spend(conn: AsyncConnection) -> bool:
            return await privacy_keys.spend(
                conn,
                key,
                signed.digest,
                now_s=self._services.now_s(),
                expires_at_s=signed.expires_at_s,
            )

        try:
            reference = await self._submissions.submit(agent, asked, spend)
        except Replayed as refused:
            entry = Entry(asked.action.value, refused.detail, ids=[each.id for each in ids])
            await self._refusals.note(agent.who, entry)
            raise
        return DsrResponse(reference=reference, read=len(given), imported=len(ids))

    async def _verified(self, token: str) -> tuple[Agent, PrivacyKey, Signed]:
        """
        Return a JWT's signer, its key and its request.

        Raises:
            Problem: 403: not trusted. 400: the request is invalid.
        """
        key, now_s = None, self._services.now_s()
        try:
            name = key_name(token)
            async with reading(self._services.ledger) as conn:
                key = await privacy_keys.find(conn, name.domain, name.cnf.kid)
                if key is None:
                    raise NotTrusted("the JWT's domain has no key of its kid")
                account = await active_account(conn, key.account_id)
            signed = verified(token, key.public_key, audience=self._audience, now_s=now_s)
        except NotTrusted as error:
            reason, is_known = str(error), error.is_signed
        except SwitchedOff as error:
            reason, is_known = str(error), False  # the signature is not verified yet
        except BadRequest as error:
            raise Problem(400, str(error), errorCode="BAD_CLAIMS") from None
        else:
            await privacy_keys.note_use(self._services.ledger, key, now_s=now_s)
            return agent_of_key(key, account), key, signed
        if key is not None and is_known:
            who = agent_of_key(key, None).who
            await self._refusals.note(who, Entry("authenticate", refused_because=reason))
        else:
            await self._refusals.note_stranger(reason)
        raise Problem(403, reason, errorCode="INVALID_JWT")


def _ids(dsr: Dsr) -> list[SubjectId]:
    values = [value for identifier in dsr.identifiers for value in identifier.values]
    if not values:
        raise Problem(400, "the JWT's dsr.identifiers name no person", errorCode="BAD_CLAIMS")
    if len(values) > MAX_IDS:
        raise Problem(400, f"more than {MAX_IDS} ids in one request", errorCode="BAD_CLAIMS")
    ids = []
    for position, value in enumerate(values, 1):
        try:
            ids.append(
                SubjectId(IdentifierKind.EMAIL, id_of_email_hash(value), tail_of_email_hash(value))
            )
        except UnusableId as error:
            raise Problem(400, f"identifier {position}: {error}", errorCode="BAD_CLAIMS") from None
    return ids


def _distinct(ids: list[SubjectId]) -> tuple[SubjectId, ...]:
    id_to_subject: dict[Id, SubjectId] = {}
    for each in ids:
        id_to_subject.setdefault(each.id, each)
    return tuple(id_to_subject.values())


def _target(dsr: Dsr) -> str | None:
    # The vendor's client sends "" for no target.
    target = (dsr.target or "").strip()
    if not target.isprintable():
        raise Problem(400, "the JWT's dsr.target can't be printed", errorCode="BAD_CLAIMS")
    return target or None
