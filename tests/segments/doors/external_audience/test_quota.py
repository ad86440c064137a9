from segments.ledger import accounts, quotas
from segments.model.quota import Quota
from tests.segments.doors.external_audience.external_world import BASE, External


async def limit(external: External, quota: Quota) -> None:
    async with external.rest.services.ledger.begin() as conn:
        partner = await accounts.partner(conn, "shop")
        await quotas.set_quota(conn, partner.id, quota)


async def test_audience_over_the_quota_fails_with_the_reason(external: External) -> None:
    """
    It is made behind the answer; what only raised there would leave it PROCESSING for ever.
    """
    await limit(external, Quota(audiences=0))
    external.put("a.csv", "mail\nalice@example.com\n")

    begun = await external.rest.ask("POST", BASE, external.spec)
    operation = await external.operation(begun.body["operationId"])

    assert operation["status"] == "FAILED"
    assert "the quota of 0 audiences is used up" in str(operation)


async def test_run_over_the_quota_is_507_in_the_vendors_form(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", "mail\nalice@example.com\n")
    await limit(external, Quota(deliveries_per_day=0))

    refused = await external.start(audience_id)

    assert refused.status == 507
    assert "the quota of 0 deliveries a day is used up" in str(refused.body)
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
