"""
digitalAudience's Audience API, except its insights: see `audience_view`.

    POST   /audience/createcrmaudience             an audience that no bid shows yet
    POST   /audience/update                        its name, its description
    POST   /audience/activate                      shown to a platform account, in a window
    GET    /audience/loadAudienceById/{audienceId}
    DELETE /audience/delete                        and everything connected with it

Data comes by the delivery doors, under the audience's id. A deleted audience leaves bids, ledger
and blobs before the answer, and the store in the loader's next sweep, which the deletion triggers.
"""

from contextlib import suppress

from aiohttp import web
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.activations import activate
from segments.doors.crm_audience.audience_view import view
from segments.doors.crm_audience.base import CrmDoor, answered, check_owns
from segments.doors.crm_audience.schemas import (
    Activated,
    AnyId,
    AudienceChange,
    AudiencePath,
    AudienceView,
    Envelope,
    NewActivation,
    NewAudience,
)
from segments.doors.rest.actor import by
from segments.doors.rest.auth import Caller, Scheme
from segments.doors.rest.bodies import body_of
from segments.doors.rest.door import operation
from segments.doors.rest.known_members import Query
from segments.doors.rest.problem import Problem
from segments.doors.rest.read_form import read_json
from segments.doors.rest.schemas import Form
from segments.doors.rest.services import Services
from segments.ingest.crm_audience import deletion as crm_deletion
from segments.ingest.deletion import delete_files
from segments.ledger import accounts, recipients, users
from segments.ledger.crm_audience import audiences as crm_audiences
from segments.ledger.crm_audience.audiences import CrmAudience
from segments.ledger.database.engine import reading
from segments.ledger.privacy.opt_outs import SAME_FOR_S
from segments.ledger.recipients import Recipient
from segments.model.account import Account
from segments.model.refusal import NotFound, Refusal
from segments.store import keys


class WhichQuery(Query):
    """Which audience; one of both."""

    audienceId: AnyId | None = None  # noqa: N815 - the document's spelling
    id: AnyId | None = None


class WhichForm(Form):
    """Which audience; one of both."""

    audienceId: AnyId | None = None  # noqa: N815 - the document's spelling
    id: AnyId | None = None


class CrmAudienceDoor(CrmDoor):
    """CRM audiences, as in digitalAudience's Audience API."""

    tag = "CRM audiences"

    def __init__(self, services: Services, schemes: tuple[Scheme, ...]) -> None:
        self.schemes = schemes
        self._services = services

    @operation(
        "POST",
        "/audience/createcrmaudience",
        answers={200: Envelope[AudienceView]},
        problems=(403, 404),
    )
    async def create(self, *, caller: Caller, body: NewAudience) -> Envelope[AudienceView]:
        """Create an audience within a campaign. No bid shows it before it is activated."""
        check_owns(caller.account)
        now_s = self._services.now_s()
        try:
            async with self._services.ledger.begin() as conn:
                user = await users.user_of_public_id(conn, caller.who)
                assert user is not None, "has just been authenticated"
                campaign = await crm_audiences.campaign(conn, caller.account, body.campaignId)
                created = await crm_audiences.create(
                    conn,
                    campaign,
                    user,
                    caller.account,
                    await accounts.partner_of(conn, caller.account),
                    name=body.name,
                    description=body.description,
                    now_s=now_s,
                )
                shown = await view(conn, created, now_s)
        except NotFound as unknown:
            raise Problem(404, str(unknown)) from None
        except Refusal as refusal:
            raise Problem(400, str(refusal)) from None
        await self._services.publish_catalog()
        return answered(shown)

    @operation(
        "POST",
        "/audience/create/api/audience/createcrmaudience",
        answers={200: Envelope[AudienceView]},
        problems=(403, 404),
    )
    async def create_as_in_the_example(
        self, *, caller: Caller, body: NewAudience
    ) -> Envelope[AudienceView]:
        """Create an audience, by the path of the document's example."""
        return await self.create(caller=caller, body=body)

    @operation("POST", "/audience/update", answers={200: Envelope[AudienceView]}, problems=(404,))
    async def update(self, *, caller: Caller, body: AudienceChange) -> Envelope[AudienceView]:
        """Change the name or the description of an audience."""
        now_s = self._services.now_s()
        try:
            async with self._services.ledger.begin() as conn:
                crm = await _audience(conn, caller.account, body.id)
                changed = await crm_audiences.change(
                    conn,
                    crm,
                    caller.account,
                    body.model_dump(exclude_unset=True, exclude={"id"}),
                    now_s=now_s,
                )
                shown = await view(conn, changed, now_s)
        except Refusal as refusal:
            raise Problem(400, str(refusal)) from None
        return answered(shown)

    @operation(
        "POST", "/audience/activate", answers={200: Envelope[Activated]}, problems=(404, 503)
    )
    async def activate(self, *, caller: Caller, body: NewActivation) -> Envelope[Activated]:
        """
        Show an audience to a platform account, from one second until another.

        Repeated for the same audience and account, it changes window, name and
        description of the same segment; no bid that begins after the answer
        uses the previous window.
        """
        try:
            async with self._services.ledger.begin() as conn:
                crm = await _audience(conn, caller.account, body.audienceId)
                activated = await activate(
                    conn,
                    await by(conn, caller, self._services.now_s()),
                    crm.audience,
                    await _recipient(conn, caller.account, body.accountId),
                    name=body.name,
                    description=body.description,
                    live_from_s=int(body.startDate.timestamp()),
                    live_until_s=int(body.endDate.timestamp()),
                )
        except Refusal as refusal:
            raise Problem(400, str(refusal)) from None
        await self._services.withdraw_from_bids()
        return answered(Activated(flowId=activated.flow_id, segmentId=int(activated.segment_id)))

    @operation(
        "GET",
        "/audience/loadAudienceById/{audienceId}",
        answers={200: Envelope[AudienceView]},
        problems=(404,),
    )
    async def load(self, *, caller: Caller, path: AudiencePath) -> Envelope[AudienceView]:
        """Load an audience with details, and the results of its uploads."""
        async with reading(self._services.ledger) as conn:
            crm = await _audience(conn, caller.account, path.audienceId)
            return answered(await view(conn, crm, self._services.now_s()))

    @operation(
        "DELETE",
        "/audience/delete",
        answers={200: Envelope[bool]},
        problems=(404, 413, 503),
        consumes={"application/json": WhichForm.model_json_schema()},
    )
    async def delete(
        self, *, caller: Caller, query: WhichQuery, request: web.Request
    ) -> Envelope[bool]:
        """
        Delete an audience and all connected data, for good.

        Name it by `?audienceId=` or `?id=`, or by a JSON body with either. A 503 says
        that it is deleted, but may still be shown for some time; repeat the request
        within an hour to learn whether that time is over.
        """
        audience_id, now_s = _which(query, await body_of(request)), self._services.now_s()
        blobs: list[str] = []
        async with self._services.ledger.begin() as conn:
            if not await crm_audiences.is_deleted(
                conn, caller.account, audience_id, now_s - SAME_FOR_S
            ):
                crm = await _audience(conn, caller.account, audience_id)
                blobs = await crm_deletion.delete_audience(conn, crm.audience, now_s=now_s)
        await delete_files(self._services.ledger, self._services.blobs, blobs)
        with suppress(RedisError):
            await self._services.redis.delete(keys.SWEPT)
        await self._services.withdraw_from_bids()
        return answered(True)


def _which(query: WhichQuery, body: bytes) -> int:
    said = read_json(WhichForm, body) if body.strip() else WhichForm()
    named = {query.audienceId, query.id, said.audienceId, said.id} - {None}
    if len(named) != 1:
        raise Problem(400, "say which audience: ?audienceId=, or a JSON body with audienceId")
    (audience_id,) = named
    assert audience_id is not None, "left out above"
    return audience_id


async def _audience(conn: AsyncConnection, account: Account, audience_id: int) -> CrmAudience:
    try:
        return await crm_audiences.crm_audience(conn, account, audience_id)
    except NotFound as unknown:
        problem = Problem(404, str(unknown))
    raise problem


async def _recipient(conn: AsyncConnection, account: Account, account_id: int) -> Recipient:
    for recipient in await recipients.granted(conn, await accounts.partner_of(conn, account)):
        if recipient.id == account_id:
            return recipient
    raise Problem(404, "no platform account of this accountId is connected to you")
