from segments.ledger import accounts, quotas
from segments.model.quota import Quota
from tests.segments.doors.crm_audience.crm_world import Crm, crm, world

__all__ = ["crm", "world"]  # fixtures


async def test_audience_over_the_quota_is_507_in_the_envelope(crm: Crm) -> None:
    campaign = await crm.data("POST", "/campaign/createcampaign", {"name": "api_camp"})
    async with crm.world.rest.services.ledger.begin() as conn:
        partner = await accounts.partner(conn, "shop")
        await quotas.set_quota(conn, partner.id, Quota(audiences=0))

    form = {"name": "mine", "campaignId": campaign["id"]}
    refused = await crm.ask("POST", "/audience/createcrmaudience", form)

    assert refused.status == 507
    assert refused.body["success"] is False
    assert "the quota of 0 audiences is used up" in str(refused.body["status"])
