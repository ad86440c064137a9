"""A delivery over the quota is answered in the vendor's form, and its file stays the partner's."""

from segments.ledger import accounts, quotas
from segments.model.quota import Quota
from tests.segments.doors.live_audience.drop_world import CONTENT, DropDoor, error
from tests.segments.ingest.deliveries import PARTNER_ID


async def test_delivery_over_the_quota_is_refused_with_the_reason(world: DropDoor) -> None:
    async with world.ledger.begin() as conn:
        partner = await accounts.partner(conn, PARTNER_ID)
        await quotas.set_quota(conn, partner.id, Quota(kept_bytes=1))

    said = await world.deliver(CONTENT)

    assert said == error(0)
    assert "the quota of 1 bytes kept is used up" in str(world.details())
    assert await world.blobs.names() == []
