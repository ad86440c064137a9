"""
digitalAudience's campaigns and platform accounts.

    POST /campaign/createcampaign             {name} -> the campaign
    GET  /organisation/loadplatformaccounts   accounts that an audience can be activated for

From the vendor's pages "Create CRM audience" and "Organization API". A campaign names a group of
an account's audiences. A platform account is a recipient, connected to the partners granted to it.
"""

from datetime import UTC, datetime

from segments.doors.crm_audience.base import CrmDoor, answered, check_owns
from segments.doors.crm_audience.schemas import CampaignView, Envelope, NewCampaign, PlatformAccount
from segments.doors.rest.auth import Caller, Scheme
from segments.doors.rest.door import operation
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.ledger import accounts, recipients
from segments.ledger.crm_audience import audiences as crm_audiences
from segments.ledger.database.engine import reading
from segments.ledger.recipients import Recipient
from segments.model.account import Account
from segments.model.refusal import Refusal

_PLATFORM_ID = 1
_PLATFORM = "openrtb"
_TYPE_ID = 1
_TYPE = "recipient"


class CrmPlatformDoor(CrmDoor):
    """Campaigns, and the accounts of activations, as in digitalAudience's REST API."""

    tag = "CRM campaigns and platform accounts"

    def __init__(self, services: Services, schemes: tuple[Scheme, ...]) -> None:
        self.schemes = schemes
        self._services = services

    @operation(
        "POST", "/campaign/createcampaign", answers={200: Envelope[CampaignView]}, problems=(403,)
    )
    async def create_campaign(self, *, caller: Caller, body: NewCampaign) -> Envelope[CampaignView]:
        """Create a campaign; another of the same name is another campaign."""
        check_owns(caller.account)
        try:
            async with self._services.ledger.begin() as conn:
                created = await crm_audiences.add_campaign(
                    conn, caller.account, body.name, now_s=self._services.now_s()
                )
        except Refusal as refusal:
            raise Problem(400, str(refusal)) from None
        return answered(
            CampaignView(
                id=created.id,
                name=created.name,
                created=datetime.fromtimestamp(created.created_at_s, UTC),
            )
        )

    @operation("POST", "/campaign/create", answers={200: Envelope[CampaignView]}, problems=(403,))
    async def create_campaign_by_its_title(
        self, *, caller: Caller, body: NewCampaign
    ) -> Envelope[CampaignView]:
        """Create a campaign, by the path in the title of the vendor's page."""
        return await self.create_campaign(caller=caller, body=body)

    @operation(
        "GET",
        "/organisation/loadplatformaccounts",
        answers={200: Envelope[list[PlatformAccount]]},
    )
    async def load_platform_accounts(self, *, caller: Caller) -> Envelope[list[PlatformAccount]]:
        """List the accounts that an audience can be activated for."""
        async with reading(self._services.ledger) as conn:
            partner = await accounts.partner_of(conn, caller.account)
            found = await recipients.granted(conn, partner)
        return answered([_account(recipient, partner) for recipient in found])

    @operation(
        "GET",
        "/organistion/loadplatformaccounts",
        answers={200: Envelope[list[PlatformAccount]]},
    )
    async def load_platform_accounts_as_titled(
        self, *, caller: Caller
    ) -> Envelope[list[PlatformAccount]]:
        """List the accounts, by the path as the title of the vendor's page spells it."""
        return await self.load_platform_accounts(caller=caller)


def _account(recipient: Recipient, partner: Account) -> PlatformAccount:
    created = datetime.fromtimestamp(recipient.created_at_s, UTC)
    return PlatformAccount(
        id=recipient.id,
        name=recipient.name,
        platformId=_PLATFORM_ID,
        platformName=_PLATFORM,
        platformDisplayName="OpenRTB bidder",
        agencyId=partner.id,
        agencyName=partner.name,
        accountTypeId=_TYPE_ID,
        accountTypeName=_TYPE,
        advertiserId=None,
        clientId=None,
        accessToken=None,
        defaultSegmentPricingCategoryId=None,
        created=created,
        updated=created,
    )
