"""
Reports of access requests: made, stored for a time, served by signed URLs, deleted.

    pending request -> report -> blob -> completed -> callback
    GET /data-subject-report/{transactionId}?expiresAt=&signature=
        -> 303 to the bucket's own signed URL, or to ours: GET /reports/{transactionId}.json

Only the blob that the ledger names is served: the transaction of an ERASURE also withdraws the
affected reports. Their files are deleted before the ERASURE's answer, or, by the command line,
within a second. Of several replicas' reports, the ledger accepts the first.
"""

import asyncio
import hmac
import logging
from contextlib import suppress
from math import inf

import orjson
from obstore.exceptions import BaseError
from redis.exceptions import RedisError

from segments.doors.privacy.options import PrivacyOptions
from segments.doors.privacy.report import report
from segments.doors.rest import presigned_url
from segments.doors.rest.presigned_url import SigningKey
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.ledger import callbacks
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.privacy import access_requests
from segments.ledger.privacy.access_requests import Access, AccessRequestState
from segments.ledger.signing_secrets import own_secret
from segments.model.day import S_PER_DAY
from segments.runtime.bug_place import bug_place
from segments.store.reader import StoreUnusable

_log = logging.getLogger(__name__)

REPORTS = "reports"
"""The prefix of all reports, among the blobs and in our own URLs."""

EVERY_S = 1.0
ACCESS_KEY_ID = "rtb-segments"
"""The key's name in our own signed URLs."""

_AT_ONCE = 20
_OWN_URL_S = 60
"""The validity of a redirect's target."""

_SWEEP_EVERY_S = 3600.0
"""Longer than the time between writing a report and recording it."""


_AWAY = (StoreUnusable, RedisError, BaseError, *LEDGER_FAILURES)
"""Temporary failures of other systems."""


class Reports:
    """Makes, serves and deletes reports."""

    def __init__(self, services: Services, options: PrivacyOptions, key: SigningKey) -> None:
        """`key` signs report URLs."""
        self._services = services
        self._options = options
        self._key = key
        self._woken = asyncio.Event()
        self._swept_at_s = -inf
        self._broken: set[int] = set()  # requests whose reports fail by a bug of ours

    def wake(self) -> None:
        """Start the next round at once."""
        self._woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Make and delete due reports until stopped."""
        was_well = True
        stopped = asyncio.create_task(stopping.wait())
        try:
            while not stopping.is_set():
                self._woken.clear()
                try:
                    await self.turn()
                    was_well = True
                except _AWAY as error:
                    if was_well:
                        _log.warning("reports: waiting (%s)", type(error).__name__)
                    was_well = False
                woken = asyncio.create_task(self._woken.wait())
                await asyncio.wait(
                    (stopped, woken), timeout=EVERY_S, return_when=asyncio.FIRST_COMPLETED
                )
                woken.cancel()
        finally:
            stopped.cancel()

    async def turn(self) -> int:
        """
        Do a single round, and return how many reports were made.

        Raises:
            StoreUnusable, RedisError, obstore.exceptions.BaseError: Try again later.
        """
        await self._delete_withdrawn()
        now_s = self._services.now_s()
        async with reading(self._services.ledger) as conn:
            due = await access_requests.due(conn, now_s, _AT_ONCE + len(self._broken))
        made = 0
        for access in due:
            if access.id in self._broken:
                continue
            try:
                if access.expires_at_s is not None and access.expires_at_s <= now_s:
                    await self._expire(access)
                else:
                    made += await self._make(access)
            except _AWAY:
                raise
            except Exception as error:  # noqa: BLE001 - a bug of ours must cost a single report
                _log.error("report of request %d: %s", access.id, bug_place(error))
                self._broken.add(access.id)
        await self._delete_withdrawn()
        if now_s >= self._swept_at_s + _SWEEP_EVERY_S:
            await self._sweep(now_s)
            self._swept_at_s = now_s
        return made

    async def delete_withdrawn(self) -> None:
        """Delete the files of withdrawn reports; `run` retries on failure."""
        with suppress(*_AWAY):
            await self._delete_withdrawn()
        self.wake()

    def url(self, base_url: str, transaction_id: str) -> str:
        """Return the signed URL of a report: the URL alone grants access."""
        until_s = int(self._services.now_s()) + self._options.report_url_s
        signature = self._signature(transaction_id, str(until_s))
        return (
            f"{base_url}/data-subject-report/{transaction_id}"
            f"?expiresAt={until_s}&signature={signature}"
        )

    async def location(
        self, base_url: str, transaction_id: str, expires_at: str, signature: str
    ) -> str:
        """
        Return the current download URL of a report.

        Raises:
            Problem: 403: the URL is not ours or has expired. 404: no report, or no longer.
        """
        expected = self._signature(transaction_id, expires_at)
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            raise Problem(403, "the signature does not match", errorCode="BAD_SIGNATURE")
        # The signature is ours, so this is a number.
        if self._services.now_s() >= int(expires_at):
            raise Problem(403, "the link has expired", errorCode="LINK_EXPIRED")
        blob = await self._blob(transaction_id)
        if self._services.blobs.takes_uploads:
            return await self._services.blobs.download_url(blob, _OWN_URL_S)
        return presigned_url.signed_url(
            "GET",
            base_url,
            f"/{REPORTS}/{transaction_id}.json",
            {},
            self._key,
            now_s=self._services.now_s(),
            expires_in_s=_OWN_URL_S,
        )

    async def content(self, method: str, host: str, target: str, transaction_id: str) -> bytes:
        """
        Return a report by our own signed URL.

        Raises:
            Problem: As for `location`.
        """
        try:
            presigned_url.check(method, host, target, self._key, now_s=self._services.now_s())
        except presigned_url.Refused as refused:
            raise Problem(403, str(refused), errorCode="BAD_SIGNATURE") from None
        return await self.read(transaction_id)

    async def read(self, transaction_id: str) -> bytes:
        """
        Return a report to a caller who may have it.

        Raises:
            Problem: 404: no report, or no longer.
        """
        blob = await self._blob(transaction_id)
        try:
            return await asyncio.to_thread(lambda: self._services.blobs.get(blob).buffered().read())
        except FileNotFoundError:  # deleted after the query
            raise _no_report() from None

    async def _blob(self, transaction_id: str) -> str:
        async with reading(self._services.ledger) as conn:
            access = await access_requests.find(conn, transaction_id)
        now_s = self._services.now_s()
        if access is None or access.blob is None or now_s >= (access.expires_at_s or now_s):
            raise _no_report()
        return access.blob

    async def _make(self, access: Access) -> bool:
        services = self._services
        made = await report(services.ledger, services.redis, access, now_s=services.now_s())
        if made is None:
            return False
        current, content = made
        blob = f"{REPORTS}/{current.transaction_id}.{current.version}.json"
        await services.blobs.put(blob, [content])
        now_s = services.now_s()
        async with services.ledger.begin() as conn:
            is_taken = await access_requests.complete(
                conn,
                current,
                blob,
                now_s=now_s,
                expires_at_s=now_s + self._options.report_days * S_PER_DAY,
            )
            if is_taken and current.callback is not None and current.told_at_s is None:
                # No report URL: only the bearer of a token may get it.
                body = {
                    "transactionId": current.transaction_id,
                    "status": AccessRequestState.COMPLETED.value,
                }
                await callbacks.add(
                    conn,
                    current.transaction_id,
                    current.callback,
                    orjson.dumps(body).decode(),
                    now_s=now_s,
                )
        if not is_taken:
            await self._put_away(blob, current)
        return is_taken

    async def _put_away(self, blob: str, made: Access) -> None:
        """Delete a rejected report, unless another replica's of this name was accepted."""
        async with reading(self._services.ledger) as conn:
            current = await access_requests.find(conn, made.transaction_id)
        if current is None or current.blob != blob:
            await self._services.blobs.delete(blob)

    async def _expire(self, access: Access) -> None:
        async with self._services.ledger.begin() as conn:
            await access_requests.expire(conn, access)

    async def _delete_withdrawn(self) -> None:
        async with reading(self._services.ledger) as conn:
            withdrawn = await access_requests.withdrawn(conn)
        for access in withdrawn:
            assert access.stale_blob is not None, "it is what was asked for"
            await self._services.blobs.delete(access.stale_blob)
            async with self._services.ledger.begin() as conn:
                await access_requests.forget_stale(conn, access)

    async def _sweep(self, now_s: float) -> None:
        """Delete unrecorded reports of processes that died."""
        names = await self._services.blobs.names_before(REPORTS, now_s - _SWEEP_EVERY_S)
        async with reading(self._services.ledger) as conn:
            known = await access_requests.known_blobs(conn, names)
        for name in set(names) - known:
            await self._services.blobs.delete(name)

    def _signature(self, transaction_id: str, expires_at: str) -> str:
        said = f"{transaction_id}\n{expires_at}".encode("utf-8", "replace")
        return hmac.digest(self._key.secret.encode(), said, "sha256").hex()


async def open_reports(services: Services, options: PrivacyOptions) -> Reports:
    """Make the `Reports` of a deployment, whose processes sign by the same secret."""
    async with services.ledger.begin() as conn:
        secret = await own_secret(conn, "report urls", now_s=services.now_s())
    return Reports(services, options, SigningKey(ACCESS_KEY_ID, secret.hex()))


def _no_report() -> Problem:
    return Problem(404, "there is no report, or none any more")
