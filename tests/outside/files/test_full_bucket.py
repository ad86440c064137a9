"""What a bucket on a full disk answers, by public reports, tried on our blobs."""

import errno
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from obstore.store import S3Store

from segments.files.blobs import Blobs
from segments.projection.causes import away_by

_FULL = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>XMinioStorageFull</Code><Message>Storage'
    " backend has reached its minimum free drive threshold.</Message></Error>"
)


@pytest.fixture
async def full_bucket() -> AsyncIterator[Blobs]:
    """A bucket of MinIO's that takes nothing more."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=507, text=_FULL, content_type="application/xml")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        store = S3Store(
            "bucket",
            endpoint=f"http://127.0.0.1:{runner.addresses[0][1]}",
            access_key_id="key",
            secret_access_key="secret",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        yield Blobs(store)
    finally:
        await runner.cleanup()


async def test_bucket_without_room_is_full_and_no_fault_of_ours(full_bucket: Blobs) -> None:
    """
    https://github.com/minio/minio/issues/18639, https://github.com/gleanerio/gleaner/issues/250
    """
    with pytest.raises(OSError, match="No space left") as caught:
        await full_bucket.put("a", [b"1"])

    away = away_by(caught.value)
    assert caught.value.errno == errno.ENOSPC
    assert away is not None
    assert away.cause.status == 507
