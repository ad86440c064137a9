"""
LiveIntent's Audience API: audiences, presigned uploads, small chunks.

    POST /audience                          creates an audience
    POST /audience/upload/{audienceId}      -> a URL for one file
    PUT  <that URL>                         the file, streamed to the blob store
    GET  /audience/upload/{requestId}       its progress
    POST /realtime/audience/{audienceId}    up to 10,000 hashes, applied at once

`audienceId` is the segment id of bid requests, `segment-id` in the vendor's URLs;
their `unique-segment-id` is the ledger's number.

Signed URLs: see `segments.doors.audience_api.presigning`. An upload becomes a job only once its
last byte is on disk; a broken upload leaves nothing, and can be repeated.
"""

import math
from urllib.parse import urlsplit

import numpy as np
from aiohttp import web

from segments.acts import audiences as acts
from segments.doors.audience_api.cross_origin import cross_origin
from segments.doors.audience_api.options import AudienceOptions
from segments.doors.audience_api.parties import audience_of, owner_and_partner
from segments.doors.audience_api.presigning import Presigning
from segments.doors.audience_api.schemas import (
    AdvertiserQuery,
    AudiencePath,
    CreatedAudience,
    NewAudience,
    Presigned,
    PresignedURI,
    RealtimeAnswer,
    RealtimeOutput,
    RealtimeQuery,
    RequestPath,
    SignedQuery,
    UploadForm,
    UploadPath,
    UploadStatus,
    progress,
)
from segments.doors.audience_api.upload_body import Incoming, check_announced
from segments.doors.rest import presigned_url as presign
from segments.doors.rest.actor import by
from segments.doors.rest.auth import Caller, Scheme
from segments.doors.rest.bodies import body_of
from segments.doors.rest.door import Door, Reply, check_not_encoded, media_type, operation
from segments.doors.rest.presigned_url import SigningKey
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.files.blobs import UPLOADS, delivery_name
from segments.ingest.parse import Parser
from segments.ingest.realtime import Chunk, Realtime
from segments.ingest.text import text_blocks
from segments.ingest.uploaded_file import arrived
from segments.ledger import audiences, jobs, quotas, uploads
from segments.ledger.database.engine import reading
from segments.ledger.uploads import Upload, UsedBefore
from segments.model.audience import Audience, AudienceState
from segments.model.day import S_PER_DAY
from segments.model.quota import OverQuota
from segments.model.refusal import Duplicate, Refusal
from segments.runtime.http_server import client_is_known

MAX_CHUNK = 10_000


class AudienceDoor(Door):
    """Audiences and the files that change them, as in LiveIntent's Audience API."""

    tag = "Audience API"
    answers_below = ("/audience/upload/",)

    def __init__(
        self,
        services: Services,
        options: AudienceOptions,
        schemes: tuple[Scheme, ...],
        key: SigningKey,
    ) -> None:
        self.schemes = schemes
        self._services = services
        self._options = options
        self._key = key
        self._presigning = Presigning(services, options, key)
        self.middlewares = (cross_origin(options.upload_cors_origins),)
        self._at_once = Realtime(
            options.expected_ids,
            services.ledger,
            services.redis,
            services.blobs,
            services.now_s,
        )

    @operation(
        "POST",
        "/audience",
        answers={201: CreatedAudience},
        problems=(403, 409),
        is_idempotent=True,
    )
    async def create(self, *, caller: Caller, body: NewAudience) -> CreatedAudience:
        """Create an audience; the next bid request can show it."""
        try:
            async with self._services.ledger.begin() as conn:
                owner, partner = await owner_and_partner(conn, caller.account, body.advertiser)
                created = await acts.create_audience(
                    conn,
                    await by(conn, caller, self._services.now_s()),
                    owner,
                    partner,
                    body.name,
                    external_id=body.externalId,
                    ttl_days=None if body.ttl is None else math.ceil(body.ttl / S_PER_DAY),
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
            ttl=None if created.ttl_days is None else created.ttl_days * S_PER_DAY,
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

        PUT the file there: `curl -T FILE "<presignedURI>"`. The URL works once,
        until it expires.
        """
        async with self._services.ledger.begin() as conn:
            audience = await audience_of(conn, caller.account, path.id, query.advertiser)
            upload = await self._presigning.permit(
                conn,
                caller.account,
                audience,
                file_name=body.filename,
                action=body.action,
                hash_type=body.type,
            )
        url = await self._presigning.url(request, upload)
        return Presigned(requestId=upload.upload.request_id, output=PresignedURI(presignedURI=url))

    @operation("GET", "/audience/upload/{id}", answers={200: UploadStatus}, problems=(404,))
    async def status(self, *, caller: Caller, path: RequestPath) -> UploadStatus:
        """Return an upload's progress, by the `requestId` of its presigned URL."""
        async with reading(self._services.ledger) as conn:
            upload = await uploads.find_upload(conn, caller.account, path.id)
            if upload is None:
                raise Problem(404, "there is no upload of this requestId")
            audience = await audiences.audience(conn, upload.audience_id)
            job = None if upload.job_id is None else await jobs.job(conn, upload.job_id)
        said = progress(upload, audience, job, self._services.now_s())
        return UploadStatus(requestId=upload.request_id, output=said)

    @operation(
        "PUT",
        f"/{UPLOADS}/{{action}}/{{key}}/{{filename}}",
        answers={200: None},
        problems=(400, 403, 404, 408, 409, 413, 417, 503, 507),
        consumes={"application/octet-stream": {"type": "string", "format": "binary"}},
        expects_itself=True,
    )
    async def upload(
        self, *, path: UploadPath, query: SignedQuery, request: web.Request
    ) -> web.StreamResponse:
        """
        Upload the file. The URL is the permission: nothing in it may be changed.

        200 once the whole file is kept; `GET /audience/upload/{requestId}` then tells
        how many of its lines are valid. The same file again is 200, too, and changes
        nothing; a different file is 409. A file that is cut off, empty, partial
        (Content-Range) or different from its checksum (Content-MD5, x-amz-checksum-*,
        x-amz-content-sha256, Content-Digest) leaves nothing, and the URL stays usable.
        """
        base = urlsplit(self._presigning.base(request))
        # As partners see it: with the prefix that a proxy may have cut off.
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
            job = None if upload.job_id is None else await jobs.job(conn, upload.job_id)
            if job is None:
                size_bytes = request.content_length or 0
                await quotas.check_delivery(conn, audience.partner_id, size_bytes, now_s)
        if audience.state is AudienceState.DELETED:
            raise Problem(404, "the audience was deleted")
        check_announced(request, self._options.upload_max_bytes)
        # Before the first byte is read, and before `Expect` is answered.
        self._services.blobs.check_room(request.content_length or 0)
        client_is_known(request)
        incoming = Incoming(request, self._options.upload_max_bytes, self._services.clock_s)

        if job is None:
            await self._receive(incoming, upload, audience)
        elif not jobs.is_of_file(job, await incoming.sha256()):
            # The same file again: the client did not get our answer.
            raise Problem(409, "this URL was used for another file; obtain another URL")
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

        200 once bid requests show the change. 202 if the store is away: the hashes are
        kept, and applied when it is back. A line that is no hash of the `type`
        causes the refusal of all lines.
        """
        async with reading(self._services.ledger) as conn:
            audience = await audience_of(conn, caller.account, path.id, query.advertiser)
        if media_type(request) not in (None, "text/plain"):
            raise Problem(415, "the body must be text/plain, one hash a line")
        check_not_encoded(request)
        chunk, dropped = _chunk(audience, query, await body_of(request))
        applied = await self._at_once.apply(caller.account, chunk)
        output = RealtimeOutput(
            records=len(chunk.ids),
            dropped=dropped or None,
            status="applied" if applied.is_in_store else "waiting",
        )
        answer = RealtimeAnswer(requestId=applied.request_id, output=output)
        return Reply(answer, 200 if applied.is_in_store else 202)

    async def _receive(self, incoming: Incoming, upload: Upload, audience: Audience) -> None:
        blobs, blob = self._services.blobs, delivery_name(audience.partner_id)
        stored = await incoming.into(blobs, blob)
        try:
            async with self._services.ledger.begin() as conn:
                await arrived(
                    conn,
                    upload,
                    audience,
                    blob=blob,
                    sha256=stored.sha256,
                    size_bytes=stored.size_bytes,
                    now_s=self._services.now_s(),
                )
        except OverQuota:
            await blobs.delete(blob)
            raise
        except UsedBefore:
            await blobs.delete(blob)
            raise Problem(409, "this URL was used meanwhile; obtain another") from None


def _chunk(audience: Audience, query: RealtimeQuery, content: bytes) -> tuple[Chunk, int]:
    parser = Parser(query.type)
    read = [parser.feed(block) for block in text_blocks(iter([content]))]
    ids = np.concatenate((*read, parser.finish()))
    if parser.bad > parser.nobody or parser.header_rows:
        samples = [{"line": line, "reason": reason.value} for line, reason in parser.samples]
        raise Problem(400, "not every line is a hash of this type", badLines=samples)
    if not len(ids):
        raise Problem(400, "not one hash was given")
    if len(ids) > MAX_CHUNK:
        raise Problem(413, f"{len(ids)} hashes, {MAX_CHUNK} at most; upload a file instead")
    return Chunk(audience, query.action, query.type, content, ids), parser.nobody
