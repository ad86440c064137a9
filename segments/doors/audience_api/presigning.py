"""
Gives URLs for uploads, each for a single file: the bucket's own, if it signs URLs
(`segments.doors.audience_api.bucket_uploads`), or ours of the same form
(`segments.doors.rest.presigned_url`).
"""

from typing import NamedTuple

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.doors.audience_api.options import AudienceOptions
from segments.doors.rest import presigned_url as presign
from segments.doors.rest.presigned_url import SigningKey
from segments.doors.rest.services import Services
from segments.files.blobs import UPLOADS
from segments.ledger import accounts, quotas, uploads
from segments.ledger.uploads import Upload
from segments.model.account import Account
from segments.model.audience import Audience
from segments.model.order import SegmentAction


class Permitted(NamedTuple):
    """A permitted upload."""

    upload: Upload
    audience: Audience
    owner: Account


class Presigning:
    """Permits uploads, and signs their URLs."""

    def __init__(self, services: Services, options: AudienceOptions, key: SigningKey) -> None:
        self._services = services
        self._options = options
        self._key = key

    async def permit(
        self,
        conn: AsyncConnection,
        account: Account,
        audience: Audience,
        *,
        file_name: str,
        action: SegmentAction,
        hash_type: str,
    ) -> Permitted:
        """
        Add an upload; its URL is made after the transaction.

        Raises:
            segments.model.quota.OverQuota: The partner may deliver no more now.
        """
        now_s = self._services.now_s()
        await quotas.check_delivery(conn, audience.partner_id, 0, now_s)
        upload = await uploads.add_upload(
            conn,
            account,
            audience,
            file_name=file_name,
            action=action,
            hash_type=hash_type,
            now_s=now_s,
            expires_at_s=now_s + self._options.upload_url_s,
        )
        return Permitted(upload, audience, await accounts.account(conn, audience.owner_id))

    async def url(self, request: web.Request, permitted: Permitted) -> str:
        """Return the URL of a permitted upload."""
        if self._services.blobs.takes_uploads:
            return await self._services.blobs.upload_url(
                f"{UPLOADS}/{permitted.upload.key}", self._options.upload_url_s
            )
        return self._own_url(request, *permitted)

    def base(self, request: web.Request) -> str:
        """Return the public base URL: the operator's, else this request's."""
        return self._services.options.public_url or f"{request.scheme}://{request.host}"

    def _own_url(
        self, request: web.Request, upload: Upload, audience: Audience, owner: Account
    ) -> str:
        return presign.signed_url(
            "PUT",
            self.base(request),
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
