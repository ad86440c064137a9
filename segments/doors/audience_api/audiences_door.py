"""
LiveIntent's Audience API: the audiences of a partner, by our numbers.

    GET   /audiences                            a page of them
    POST  /audiences                            creates one
    GET   /audiences/{audienceId}
    PATCH /audiences/{audienceId}               renames, archives or activates it
    GET   /audiences/{audienceId}/counts        its members by day
    GET   /audiences/{audienceId}/uploads       the files that change it
    POST  /audiences/{audienceId}/signed-urls   -> a URL for one file
    POST  /search/audiences, /search/audiences/v2

Each path is also served as `/audience...`, as in the vendor's document, but `POST /audience` is
the older operation of `segments.doors.audience_api.door`. Errors have the vendor's form,
`ApplicationError`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import audiences as acts
from segments.doors.audience_api.audience_schemas import (
    AccountQuery,
    ApplicationError,
    AudienceCountEntry,
    AudienceCounts,
    AudienceData,
    AudienceNumberPath,
    AudiencesPage,
    AudiencesQuery,
    AudienceUploadsPage,
    CreateAudienceRequest,
    CreateSignedUrlRequest,
    CursorPage,
    PageQuery,
    SignedUploadUrl,
    StatusUpdate,
    UpdateAudienceRequest,
    audience_data,
    pages_of,
    upload_data,
)
from segments.doors.audience_api.options import AudienceOptions
from segments.doors.audience_api.presigning import Presigning
from segments.doors.audience_api.search_schemas import (
    AudienceSearchRequest,
    AudienceSearchRequestV2,
)
from segments.doors.rest.actor import by
from segments.doors.rest.auth import Caller, Scheme
from segments.doors.rest.door import Door, operation
from segments.doors.rest.presigned_url import SigningKey
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.ledger import accounts
from segments.ledger.audience_counts import counts_of, partner_secret
from segments.ledger.audience_list import (
    AllOf,
    AudienceFilter,
    Condition,
    ListedAudience,
    OwnedBy,
    audience_page,
    listed_audience,
    numbered_page,
)
from segments.ledger.database.engine import reading
from segments.ledger.job_list import numbered_jobs
from segments.model.account import Account, AccountKind
from segments.model.audience import AudienceState
from segments.model.partner_numbers import of_audience
from segments.model.refusal import Refusal

_MS_PER_S = 1000
_NUMBER = "{audienceId}"
_ONLY_NUMBERS = "{audienceId:-?[0-9]+}"


class AudiencesDoor(Door):
    """A partner's audiences, as in LiveIntent's Audience API."""

    tag = "Audiences"
    answers_below = ("/audiences", "/search/audiences")
    problem_model = ApplicationError
    problem_content_type = "application/json"

    def __init__(
        self,
        services: Services,
        options: AudienceOptions,
        schemes: tuple[Scheme, ...],
        key: SigningKey,
    ) -> None:
        self.schemes = schemes
        self._services = services
        self._presigning = Presigning(services, options, key)

    def also_at(self, path: str) -> Sequence[str]:
        """Return the path in the singular, with digits only: other doors have words there."""
        if path.startswith("/audiences"):
            return [path.replace("/audiences", "/audience", 1).replace(_NUMBER, _ONLY_NUMBERS)]
        return []

    def problem(self, problem: Problem) -> web.Response:
        """Answer a problem in the vendor's form."""
        phrase = HTTPStatus(problem.status).phrase
        error = ApplicationError(
            httpStatus=problem.status,
            message=problem.detail or phrase,
            errorCode=phrase.upper().replace(" ", "_").replace("-", "_"),
        )
        return web.Response(
            text=error.model_dump_json(),
            status=problem.status,
            content_type=self.problem_content_type,
            headers=problem.headers,
        )

    @operation("GET", "/audiences", answers={200: AudiencesPage})
    async def audiences(self, *, caller: Caller, query: AudiencesQuery) -> AudiencesPage:
        """List audiences, newest first; of an agency, those of its sub accounts."""
        after_s = None if query.updatedAfter is None else query.updatedAfter / _MS_PER_S
        wanted = AudienceFilter(
            caller.account, updated_after_s=after_s, condition=_owned_by(query.accountId)
        )
        return await self._page(wanted, query.page, query.pageSize)

    @operation(
        "POST",
        "/audiences",
        answers={201: AudienceData},
        problems=(403,),
        is_idempotent=True,
    )
    async def create(self, *, caller: Caller, body: CreateAudienceRequest) -> AudienceData:
        """Create an audience; the next bid request can show it."""
        async with self._services.ledger.begin() as conn:
            owner = await _owner(conn, caller.account, body.accountId)
            partner = await accounts.partner_of(conn, owner)
            if body.dataProviderId not in (None, partner.id):
                raise Problem(403, "this data provider is not yours")
            actor = await by(conn, caller, self._services.now_s())
            made = await acts.create_audience(conn, actor, owner, partner, body.name)
            created = await _audience(conn, caller.account, made.id)
        await self._services.publish_catalog()
        return audience_data(created)

    @operation("GET", "/audiences/{audienceId}", answers={200: AudienceData}, problems=(404,))
    async def audience(self, *, caller: Caller, path: AudienceNumberPath) -> AudienceData:
        """Show an audience."""
        async with reading(self._services.ledger) as conn:
            return audience_data(await _audience(conn, caller.account, path.audienceId))

    @operation("PATCH", "/audiences/{audienceId}", answers={200: AudienceData}, problems=(404, 503))
    async def change(
        self, *, caller: Caller, path: AudienceNumberPath, body: UpdateAudienceRequest
    ) -> AudienceData:
        """
        Rename, archive or activate an audience.

        No bid that begins after the answer shows an archived audience; files continue
        to change it. A 503 says that it is archived, but may still be shown for some
        time; repeat the request to learn whether that time is over.
        """
        try:
            async with self._services.ledger.begin() as conn:
                actor = await by(conn, caller, self._services.now_s())
                found = (await _audience(conn, caller.account, path.audienceId)).audience
                if body.name is not None:
                    await acts.rename(conn, actor, found, body.name)
                if body.status is StatusUpdate.ACTIVATE:
                    await acts.set_state(conn, actor, found, AudienceState.ACTIVE)
                elif body.status is StatusUpdate.ARCHIVE:
                    await acts.set_state(conn, actor, found, AudienceState.DEACTIVATED)
                changed = await _audience(conn, caller.account, path.audienceId)
        except Refusal as refusal:
            raise Problem(400, str(refusal)) from None
        if body.status is StatusUpdate.ARCHIVE:
            await self._services.withdraw_from_bids()
        elif body.status is StatusUpdate.ACTIVATE:
            await self._services.publish_catalog()
        return audience_data(changed)

    @operation(
        "GET", "/audiences/{audienceId}/counts", answers={200: AudienceCounts}, problems=(404,)
    )
    async def counts(self, *, caller: Caller, path: AudienceNumberPath) -> AudienceCounts:
        """
        Count an audience's members by day, the latest day first.

        In hundreds; days under 1,000 are left out.
        """
        async with self._services.ledger.begin() as conn:
            await _audience(conn, caller.account, path.audienceId)
            secret = await partner_secret(conn, now_s=self._services.now_s())
            counts = await counts_of(conn, path.audienceId)
        entries = []
        for count in counts:
            told = of_audience(count, secret)
            if told.members is not None:
                day = datetime.fromtimestamp(told.counted_at_s, UTC).date()
                entries.append(AudienceCountEntry(date=day, totalCount=told.members, matchCount=0))
        return AudienceCounts(entries=entries)

    @operation(
        "GET",
        "/audiences/{audienceId}/uploads",
        answers={200: AudienceUploadsPage},
        problems=(404,),
    )
    async def uploads(
        self, *, caller: Caller, path: AudienceNumberPath, query: PageQuery
    ) -> AudienceUploadsPage:
        """List the files that change an audience, newest first, by whatever door they came."""
        async with reading(self._services.ledger) as conn:
            await _audience(conn, caller.account, path.audienceId)
            found, total = await numbered_jobs(
                conn, path.audienceId, number=query.page, size=query.pageSize
            )
        return AudienceUploadsPage(
            page=query.page,
            pageSize=query.pageSize,
            pages=pages_of(total, query.pageSize),
            totalCount=total,
            entries=[upload_data(job, path.audienceId) for job in found],
        )

    @operation(
        "POST",
        "/audiences/{audienceId}/signed-urls",
        answers={201: SignedUploadUrl},
        problems=(404,),
    )
    async def sign(
        self,
        *,
        caller: Caller,
        path: AudienceNumberPath,
        body: CreateSignedUrlRequest,
        request: web.Request,
    ) -> SignedUploadUrl:
        """
        Obtain a signed URL for one file of hashes.

        PUT the file there: `curl -T FILE "<signedUrl>"`. The URL works once, until it
        expires.
        """
        hash_type = "sha2" if body.identifierType == "sha256" else body.identifierType
        file_name = body.uploadName or f"{body.action}.{hash_type}.txt"
        async with self._services.ledger.begin() as conn:
            audience = (await _audience(conn, caller.account, path.audienceId)).audience
            if audience.state is AudienceState.DELETED:
                raise Problem(404, "the audience was deleted")
            permitted = await self._presigning.permit(
                conn,
                caller.account,
                audience,
                file_name=file_name,
                action=body.action,
                hash_type=hash_type,
            )
        return SignedUploadUrl(signedUrl=await self._presigning.url(request, permitted))

    @operation("POST", "/search/audiences", answers={200: AudiencesPage})
    async def search(
        self, *, caller: Caller, query: AccountQuery, body: AudienceSearchRequest
    ) -> AudiencesPage:
        """Search audiences, newest first, by number of page."""
        return await self._page(_searched(caller, query, body.condition), body.page, body.pageSize)

    @operation("POST", "/search/audiences/v2", answers={200: CursorPage})
    async def search_on(
        self, *, caller: Caller, query: AccountQuery, body: AudienceSearchRequestV2
    ) -> CursorPage:
        """Search audiences, newest first; pages stay whole while audiences are added."""
        try:
            async with reading(self._services.ledger) as conn:
                page = await audience_page(
                    conn,
                    _searched(caller, query, body.condition),
                    limit=body.pageSize,
                    cursor=body.next,
                )
        except Refusal as refusal:
            raise Problem(400, str(refusal).replace("cursor", "next", 1)) from None
        return CursorPage(items=[audience_data(each) for each in page.rows], next=page.next_cursor)

    async def _page(self, wanted: AudienceFilter, number: int, size: int) -> AudiencesPage:
        async with reading(self._services.ledger) as conn:
            found, total = await numbered_page(conn, wanted, number=number, size=size)
        return AudiencesPage(
            page=number,
            pageSize=size,
            pages=pages_of(total, size),
            totalCount=total,
            entries=[audience_data(each) for each in found],
        )


async def _audience(conn: AsyncConnection, account: Account, number: int) -> ListedAudience:
    found = await listed_audience(conn, account, number)
    if found is None:
        raise Problem(404, "you have no audience of this number")
    return found


async def _owner(conn: AsyncConnection, account: Account, owner_id: int | None) -> Account:
    if owner_id is None or owner_id == account.id:
        if account.kind is AccountKind.ADVERTISER:
            return account
        raise Problem(403, "accountId must be a sub account's: you have no audiences yourself")
    for owner in await accounts.below(conn, account):
        if owner.id == owner_id and owner.is_active:
            return owner
    raise Problem(403, "this account is not one of yours")


def _owned_by(account_id: int | None) -> Condition | None:
    return None if account_id is None else OwnedBy(account_id)


def _searched(caller: Caller, query: AccountQuery, condition: Condition | None) -> AudienceFilter:
    conditions = tuple(each for each in (_owned_by(query.accountId), condition) if each is not None)
    return AudienceFilter(caller.account, condition=AllOf(conditions))
