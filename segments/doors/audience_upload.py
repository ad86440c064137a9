"""
LiveIntent's Audience API: audiences, presigned uploads, small chunks.

    POST /audience                          creates an audience
    POST /audience/upload/{audienceId}      -> a URL for one file
    PUT  <that URL>                         the file, streamed to the blob store
    GET  /audience/upload/{requestId}       how far it is
    POST /realtime/audience/{audienceId}    up to 10,000 hashes, applied at once

`audienceId` is the segment id as bid requests show it, `segment-id` in the
vendor's URLs; what those call `unique-segment-id` is the ledger's number.

Where the blobs are a bucket that signs URLs, the URL is the bucket's own, and
`segments.doors.bucket` notices the file there. Otherwise it is ours, in the same
form: see `segments.doors.presign`. An upload is no job until its last byte is
on the disk; one that breaks off leaves nothing, and the URL may be tried again.
"""

import math
from enum import StrEnum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import numpy as np
from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.account import Account, Kind
from segments.api.auth import Caller, Scheme
from segments.api.door import Door, Reply, check_not_encoded, media_type, operation
from segments.api.problem import Problem
from segments.api.services import Services
from segments.audience import Audience, State
from segments.blobs import UPLOADS
from segments.doors import presign
from segments.doors.forms import FileName, Form, PrintableText, Query
from segments.doors.incoming import Incoming, check_announced
from segments.doors.presign import SigningKey
from segments.ingest import job as jobs_states
from segments.ingest.arrival import arrived, new_blob_name
from segments.ingest.at_once import AtOnce, Chunk
from segments.ingest.job import Job
from segments.ingest.parse import Parser
from segments.ingest.validate import Action
from segments.ledger import accounts, audiences, jobs, uploads
from segments.ledger.engine import reading
from segments.ledger.refusal import Duplicate, Refusal
from segments.ledger.uploads import Upload, UsedBefore

MAX_CHUNK = 10_000
_S_PER_DAY = 86_400

_Lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
_Text = BeforeValidator(lambda value: str(value) if type(value) is int else value)
HashType = Annotated[Literal["md5", "sha1", "sha2"], _Lower]
_AudienceId = Annotated[str, Field(pattern=r"^-?[0-9]{1,20}$")]


class NewAudience(Form):
    """An audience to create."""

    advertiser: Annotated[PrintableText, _Text] = Field(
        max_length=128, description="Your own id; of an agency, a `sub_id` of its."
    )
    externalId: Annotated[PrintableText, _Text] | None = None  # noqa: N815 - the document's spelling
    name: PrintableText
    ttl: int | None = Field(
        None,
        ge=1,
        le=audiences.MAX_TTL_DAYS * _S_PER_DAY,
        description="Seconds that a membership holds, rounded up to days. None: for good.",
    )


class CreatedAudience(Form):
    """An audience as it is."""

    id: int = Field(description="The `audienceId` of the other operations.")
    advertiser: str
    externalId: str | None = None  # noqa: N815 - the document's spelling
    name: str
    ttl: int | None = None


class AudiencePath(Form):
    """Which audience."""

    id: _AudienceId


class AdvertiserQuery(Query):
    """Whose audience, where an agency's sub accounts have several of one id."""

    advertiser: PrintableText | None = None


class UploadForm(Form):
    """A file to come."""

    filename: FileName
    action: Annotated[Action, _Lower]
    type: HashType


class PresignedURI(Form):
    """Where to PUT the file."""

    presignedURI: str  # noqa: N815 - the document's spelling


class Presigned(Form):
    """Permission for one upload."""

    requestId: str  # noqa: N815 - the document's spelling
    output: PresignedURI


class UploadState(StrEnum):
    """How far an upload is."""

    WAITING = "waiting"  # for the file
    EXPIRED = "expired"  # no file came in time
    QUEUED = "queued"
    PROCESSING = "processing"
    HELD = "held"  # until a person of the operator's has looked at it
    DONE = "done"
    FAILED = "failed"


_STATES = {
    jobs_states.State.QUEUED: UploadState.QUEUED,
    jobs_states.State.RUNNING: UploadState.PROCESSING,
    jobs_states.State.HELD: UploadState.HELD,
    jobs_states.State.DONE: UploadState.DONE,
    jobs_states.State.FAILED: UploadState.FAILED,
}


class UploadError(Form):
    """Why a file was not loaded; numbered and worded as in LiveAudience's `.status`."""

    code: str
    description: str


class UploadProgress(Form):
    """What became of a file so far. Counts are of its lines, never of who opted out."""

    audienceId: int  # noqa: N815 - the document's spelling
    filename: str
    action: Action
    type: str
    status: UploadState
    bytes: int | None = None
    records: int | None = None
    badRecords: int | None = None  # noqa: N815 - likewise
    processedRecords: int | None = None  # noqa: N815 - likewise
    error: UploadError | None = None


class UploadStatus(Form):
    """How far an upload is."""

    requestId: str  # noqa: N815 - the document's spelling
    output: UploadProgress


class RequestPath(Form):
    """Which upload."""

    id: Annotated[str, Field(pattern=r"^[0-9]{1,20}\.[0-9]{6}$")]


class UploadPath(Form):
    """What a presigned URL says in its path; all of it is signed."""

    action: str
    key: str
    filename: str


class SignedQuery(Form):
    """What a presigned URL says in its query; all of it is signed."""

    model_config = ConfigDict(extra="allow")

    signature: str | None = Field(None, alias="X-Amz-Signature")


class RealtimeQuery(Query):
    """What the hashes are, and what to do with them."""

    type: HashType
    action: Annotated[Action, _Lower] = Action.ADD
    advertiser: PrintableText | None = None


class RealtimeOutput(Form):
    """What became of the hashes."""

    records: int
    status: Literal["applied", "waiting"] = Field(
        description="`waiting`: kept for good, and applied when the store is back."
    )


class RealtimeAnswer(Form):
    """The hashes were taken in."""

    requestId: str  # noqa: N815 - the document's spelling
    output: RealtimeOutput


class AudienceDoor(Door):
    """Audiences and the files that change them, as in LiveIntent's Audience API."""

    tag = "Audience API"

    def __init__(self, services: Services, schemes: tuple[Scheme, ...], key: SigningKey) -> None:
        """
        Args:
            services: What doors work with.
            schemes: How callers say who they are.
            key: Signs upload URLs of our own.
        """
        self.schemes = schemes
        self._services = services
        self._key = key
        self._at_once = AtOnce(
            services.settings, services.ledger, services.redis, services.blobs, services.now_s
        )

    @operation("POST", "/audience", answers={201: CreatedAudience}, problems=(403, 409))
    async def create(self, *, caller: Caller, body: NewAudience) -> CreatedAudience:
        """Create an audience; the next bid request can show it."""
        try:
            async with self._services.ledger.begin() as conn:
                owner, partner = await _parties(conn, caller.account, body.advertiser)
                created = await audiences.add_audience(
                    conn,
                    owner,
                    partner,
                    body.name,
                    external_id=body.externalId,
                    ttl_days=None if body.ttl is None else math.ceil(body.ttl / _S_PER_DAY),
                    now_s=self._services.now_s(),
                )
        except Duplicate:
            raise Problem(409, "there is an audience of this externalId already") from None
        except Refusal as refusal:
            raise Problem(400, str(refusal)) from None
        await self._services.publish_catalog()
        return CreatedAudience(
            id=int(created.segment_id),
            advertiser=owner.public_id,
            externalId=body.externalId,
            name=created.name,
            ttl=None if created.ttl_days is None else created.ttl_days * _S_PER_DAY,
        )

    @operation("POST", "/audience/upload/{id}", answers={200: Presigned}, problems=(403, 404, 409))
    async def presign(
        self,
        *,
        caller: Caller,
        path: AudiencePath,
        query: AdvertiserQuery,
        body: UploadForm,
        request: web.Request,
    ) -> Presigned:
        """
        Obtain a presigned URL for one file of hashes.

        PUT the file there: `curl -T FILE "<presignedURI>"`. It can be used once,
        until it expires.
        """
        settings, now_s = self._services.settings, self._services.now_s()
        async with self._services.ledger.begin() as conn:
            audience = await _audience(conn, caller.account, path.id, query.advertiser)
            owner = await accounts.account(conn, audience.owner_id)
            upload = await uploads.add_upload(
                conn,
                caller.account,
                audience,
                file_name=body.filename,
                action=body.action,
                hash_type=body.type,
                now_s=now_s,
                expires_at_s=now_s + settings.upload_url_s,
            )
        if self._services.blobs.takes_uploads:
            url = await self._services.blobs.upload_url(
                f"{UPLOADS}/{upload.key}", settings.upload_url_s
            )
        else:
            url = self._own_url(request, upload, audience, owner)
        return Presigned(requestId=upload.request_id, output=PresignedURI(presignedURI=url))

    @operation("GET", "/audience/upload/{id}", answers={200: UploadStatus}, problems=(404,))
    async def status(self, *, caller: Caller, path: RequestPath) -> UploadStatus:
        """Tell how far an upload is, by the `requestId` that it was presigned under."""
        async with reading(self._services.ledger) as conn:
            upload = await uploads.find_upload(conn, caller.account, path.id)
            if upload is None:
                raise Problem(404, "there is no upload of this requestId")
            audience = await audiences.audience(conn, upload.audience_id)
            job = None if upload.job_id is None else await jobs.job(conn, upload.job_id)
        progress = _progress(upload, audience, job, self._services.now_s())
        return UploadStatus(requestId=upload.request_id, output=progress)

    @operation(
        "PUT",
        f"/{UPLOADS}/{{action}}/{{key}}/{{filename}}",
        answers={200: None},
        problems=(403, 404, 408, 409, 413, 417, 503),
        consumes={"application/octet-stream": {"type": "string", "format": "binary"}},
        expects_itself=True,
    )
    async def upload(
        self, *, path: UploadPath, query: SignedQuery, request: web.Request
    ) -> web.StreamResponse:
        """
        Upload the file. The URL is the permission: nothing in it may be changed.

        200 once the whole file is kept; what is in it, `GET
        /audience/upload/{requestId}` will tell. A file that breaks off leaves
        nothing, and the URL may be tried again.
        """
        base = urlsplit(self._base(request))
        # The target as partners see it: behind a proxy, with the prefix that it cut off.
        target, now_s = base.path + request.raw_path, self._services.now_s()
        try:
            presign.check(request.method, base.netloc, target, self._key, now_s=now_s)
        except presign.Refused as refused:
            raise Problem(403, str(refused)) from None
        async with reading(self._services.ledger) as conn:
            upload = await uploads.upload_of_key(conn, path.key)
            if upload is None:
                raise Problem(404, "there is no such upload")
            audience = await audiences.audience(conn, upload.audience_id)
        if upload.job_id is not None:
            raise Problem(409, "this URL was used; obtain another")
        if audience.state is State.DELETED:
            raise Problem(404, "the audience was deleted")
        check_announced(request, self._services.settings.upload_max_bytes)

        await self._receive(request, upload, audience)
        return web.Response(status=200)

    @operation(
        "POST",
        "/realtime/audience/{id}",
        answers={200: RealtimeAnswer, 202: RealtimeAnswer},
        problems=(403, 404, 409, 413, 415),
        consumes={"text/plain": {"type": "string", "description": "One hash a line."}},
    )
    async def realtime(
        self, *, caller: Caller, path: AudiencePath, query: RealtimeQuery, request: web.Request
    ) -> Reply:
        """
        Add or remove up to 10,000 hashes at once, given as text with one hash a line.

        200 once bid requests show it. 202 if the store is away: the hashes are
        kept, and applied when it is back. A line that is no hash of the `type`
        refuses all of them.
        """
        async with reading(self._services.ledger) as conn:
            audience = await _audience(conn, caller.account, path.id, query.advertiser)
        if media_type(request) not in (None, "text/plain"):
            raise Problem(415, "the body must be text/plain, one hash a line")
        check_not_encoded(request)
        chunk = _chunk(audience, query, await request.read())
        applied = await self._at_once.apply(caller.account, chunk)
        output = RealtimeOutput(
            records=len(chunk.ids), status="applied" if applied.is_in_store else "waiting"
        )
        answer = RealtimeAnswer(requestId=applied.request_id, output=output)
        return Reply(answer, 200 if applied.is_in_store else 202)

    async def _receive(self, request: web.Request, upload: Upload, audience: Audience) -> None:
        blobs, blob = self._services.blobs, new_blob_name(audience)
        incoming = Incoming(request, self._services.settings.upload_max_bytes)
        stored = await incoming.into(blobs, blob)
        try:
            async with self._services.ledger.begin() as conn:
                await arrived(
                    conn,
                    upload,
                    audience,
                    blob=blob,
                    sha256=stored.sha256,
                    now_s=self._services.now_s(),
                )
        except UsedBefore:
            await blobs.delete(blob)
            raise Problem(409, "this URL was used meanwhile; obtain another") from None

    def _own_url(
        self, request: web.Request, upload: Upload, audience: Audience, owner: Account
    ) -> str:
        return presign.signed_url(
            "PUT",
            self._base(request),
            f"/{UPLOADS}/{upload.action}/{upload.key}/{upload.file_name}",
            {
                "x-amz-meta-action": upload.action.value,
                "x-amz-meta-type": upload.hash_type,
                "x-amz-meta-filename": upload.file_name,
                "x-amz-meta-advertiser-id": owner.public_id,
                "x-amz-meta-segment-id": audience.segment_id,
                "x-amz-meta-unique-segment-id": str(audience.id),
            },
            self._key,
            now_s=upload.created_at_s,
            expires_in_s=upload.expires_at_s - upload.created_at_s,
        )

    def _base(self, request: web.Request) -> str:
        """Return where partners find us: as the operator says, else as this request did."""
        return self._services.settings.api_public_url or f"{request.scheme}://{request.host}"


async def _parties(
    conn: AsyncConnection, account: Account, advertiser: str
) -> tuple[Account, Account]:
    """Return whose the audience will be, and who shows it."""
    if account.kind is Kind.AGENCY:
        owner = await accounts.find_sub_account(conn, account, advertiser)
        if owner is not None and owner.is_active:
            return owner, account
    elif advertiser == account.public_id:
        return account, await _partner_of(conn, account)
    raise Problem(403, "this advertiser is not one of yours")


async def _partner_of(conn: AsyncConnection, account: Account) -> Account:
    if account.parent_id is not None:
        parent = await accounts.account(conn, account.parent_id)
        if parent.kind is Kind.AGENCY:
            return parent
    return account


async def _audience(
    conn: AsyncConnection, account: Account, segment_id: str, advertiser: str | None
) -> Audience:
    found = await audiences.find_audiences(conn, account, segment_id)
    if advertiser is not None:
        owner, _ = await _parties(conn, account, advertiser)
        found = [audience for audience in found if audience.owner_id == owner.id]
    if not found:
        raise Problem(404, "you have no audience of this id")
    if len(found) > 1:
        raise Problem(409, "several of your advertisers have this audience; add ?advertiser=")
    return found[0]


def _progress(upload: Upload, audience: Audience, job: Job | None, now_s: float) -> UploadProgress:
    said: dict[str, Any] = {
        "audienceId": int(audience.segment_id),
        "filename": upload.file_name,
        "action": upload.action,
        "type": upload.hash_type,
    }
    if job is None:
        state = UploadState.EXPIRED if now_s >= upload.expires_at_s else UploadState.WAITING
        return UploadProgress(**said, status=state)
    report, stop = job.report, job.stop
    return UploadProgress(
        **said,
        status=_STATES[job.state],
        bytes=report.size_bytes,
        records=report.rows,
        badRecords=report.bad,
        processedRecords=report.written,
        error=None
        if stop is None
        else UploadError(code=str(stop.code), description=stop.description),
    )


def _chunk(audience: Audience, query: RealtimeQuery, content: bytes) -> Chunk:
    """Read a chunk, all of it or nothing."""
    parser = Parser(query.type)
    ids = np.concatenate((parser.feed(content), parser.finish()))
    if parser.bad or parser.header_rows:
        samples = [{"line": line, "reason": reason.value} for line, reason in parser.samples]
        raise Problem(400, "not every line is a hash of this type", badLines=samples)
    if not len(ids):
        raise Problem(400, "not one hash was given")
    if len(ids) > MAX_CHUNK:
        raise Problem(413, f"{len(ids)} hashes, {MAX_CHUNK} at most; upload a file instead")
    return Chunk(audience, query.action, query.type, content, ids)
