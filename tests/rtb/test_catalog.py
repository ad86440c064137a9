import json
from dataclasses import dataclass
from typing import Any

import pytest

from rtb.catalog import Catalog, Reach
from rtb.outcome import Outcome
from segments.model.catalog import AccountEntry, ActivationEntry, AudienceEntry, RecipientEntry
from segments.model.identity import id_of_email_hash
from segments.model.record import EVERYONE
from tests.rtb.requests import (
    BANK_AUDIENCE,
    NOW_S,
    SHOP,
    answered,
    bid_request,
    packed,
    snapshot,
)

IDS = [id_of_email_hash(f"{i:064x}"[::-1]) for i in range(1, 2_001)]


def _shown(catalog: Catalog, recipient: str | None) -> set[str]:
    known = catalog.recipient(recipient)
    assert known is not None
    return {segment.segment_id for segment in known.segments.values()}


def _with(*, owner_id: int = 1, partner_id: int = 1, is_active: bool = True) -> AudienceEntry:
    return AudienceEntry(1, owner_id, partner_id, "101", is_active)


def test_recipient_is_shown_the_partners_granted_to_it_and_no_other() -> None:
    catalog = Catalog.from_snapshot(
        snapshot(
            recipients=(
                RecipientEntry(1, "dsp-a", is_active=True, partner_ids=(2,)),
                RecipientEntry(2, "dsp-b", is_active=True, partner_ids=(1, 2, 99)),
                RecipientEntry(3, "dsp-c", is_active=True),
            )
        )
    )

    assert _shown(catalog, "dsp-a") == {"201"}
    assert _shown(catalog, "dsp-b") == {"101", "102", "103", "104", "105", "201"}
    assert _shown(catalog, "dsp-c") == set()


def _activated_for_a() -> Catalog:
    """Audience 1 has no window of its own; for dsp-a it is activated."""
    closed = AudienceEntry(1, 1, 1, "101", is_active=True, live_until_s=0)
    activation = ActivationEntry(1, "1000000001", NOW_S, NOW_S + 60)
    return Catalog.from_snapshot(
        snapshot(
            audiences=(closed, BANK_AUDIENCE),
            recipients=(
                RecipientEntry(1, "dsp-a", True, (1, 2), activations=(activation,)),
                RecipientEntry(2, "dsp-b", True, (1, 2)),
                RecipientEntry(3, "dsp-c", True, (2,), activations=(activation,)),
            ),
        )
    )


def test_activation_gives_one_recipient_a_segment_id_and_a_window_of_its_own() -> None:
    catalog = _activated_for_a()

    known = catalog.recipient("dsp-a")
    assert known is not None
    segment = known.segments[1]
    assert (segment.segment_id, segment.json) == ("1000000001", b'{"id":"1000000001"}')
    assert (segment.live_from_s, segment.live_until_s) == (NOW_S, NOW_S + 60)
    assert (segment.partner.data_id, segment.owner_id) == ("shop", 1)
    assert _shown(catalog, "dsp-a") == {"1000000001", "201"}


def test_activation_for_a_recipient_that_is_not_granted_the_partner_shows_nothing() -> None:
    assert _shown(_activated_for_a(), "dsp-c") == {"201"}


def test_activation_of_an_audience_that_is_not_active_shows_nothing() -> None:
    activation = ActivationEntry(1, "7", 0, NOW_S)
    recipient = RecipientEntry(1, "dsp-a", True, (1,), activations=(activation,))

    catalog = Catalog.from_snapshot(
        snapshot(audiences=(_with(is_active=False),), recipients=(recipient,))
    )

    assert _shown(catalog, "dsp-a") == set()


@pytest.mark.parametrize(
    ("recipient", "at_s", "outcome"),
    [
        pytest.param("dsp-a", NOW_S - 0.001, Outcome.NO_MATCH, id="just before its first second"),
        pytest.param("dsp-a", NOW_S, Outcome.ENRICHED, id="its first second"),
        pytest.param("dsp-a", NOW_S + 59.999, Outcome.ENRICHED, id="the last moment"),
        pytest.param("dsp-a", NOW_S + 60, Outcome.NO_MATCH, id="the second it ends"),
        pytest.param("dsp-b", NOW_S + 30, Outcome.NO_MATCH, id="another recipient, within"),
        pytest.param(None, NOW_S + 30, Outcome.NO_MATCH, id="the trusted caller, within"),
    ],
)
def test_activated_audience_is_shown_to_its_recipient_in_its_window_alone(
    recipient: str | None, at_s: float, outcome: Outcome
) -> None:
    catalog = _activated_for_a()

    result = answered(bid_request(), packed(1), catalog=catalog, recipient=recipient, now_s=at_s)

    assert result.outcome == outcome


@pytest.mark.parametrize("lag_s", [0.0, 0.1, 0.25])
def test_window_holds_to_the_second_by_a_clock_that_lags_as_the_workers_does(lag_s: float) -> None:
    """
    A worker's clock stands still for up to a quarter of a second. So a segment
    is there before its first second is over, never before it, and gone before
    the second in which it ends is over.
    """
    catalog = _activated_for_a()

    def is_shown(at_s: float) -> bool:
        seen_s = at_s - lag_s
        result = answered(
            bid_request(), packed(1), catalog=catalog, recipient="dsp-a", now_s=seen_s
        )
        return result.outcome is Outcome.ENRICHED

    assert not is_shown(NOW_S - 0.001)
    assert is_shown(NOW_S + 0.25)
    assert is_shown(NOW_S + 59.999)
    assert not is_shown(NOW_S + 60.25)


def test_trusted_caller_is_shown_all_partners() -> None:
    assert _shown(Catalog.from_snapshot(snapshot()), None) == {
        "101", "102", "103", "104", "105", "201",
    }  # fmt: skip


def test_unknown_and_inactive_recipients_are_none() -> None:
    catalog = Catalog.from_snapshot(
        snapshot(recipients=(RecipientEntry(1, "gone", is_active=False, partner_ids=(1,)),))
    )

    assert catalog.recipient("gone") is None
    assert catalog.recipient("never-heard-of") is None


def test_catalog_says_which_version_it_shows() -> None:
    assert Catalog.from_snapshot(snapshot()).version == 7


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"audiences": (_with(is_active=False),)}, id="audience inactive"),
        pytest.param(
            {
                "audiences": (_with(),),
                "accounts": (AccountEntry(1, "advertiser", "shop", "Shop", is_active=False),),
            },
            id="owner inactive",
        ),
        pytest.param(
            {
                "audiences": (_with(partner_id=3),),
                "accounts": (SHOP, AccountEntry(3, "agency", "ag", "Agency", is_active=False)),
            },
            id="partner inactive",
        ),
        pytest.param({"audiences": (_with(owner_id=99),)}, id="owner unknown"),
        pytest.param({"audiences": (_with(partner_id=99),)}, id="partner unknown"),
    ],
)
def test_what_is_not_active_is_not_shown(changes: dict[str, Any]) -> None:
    assert _shown(Catalog.from_snapshot(snapshot(**changes)), None) == set()


def test_data_of_a_partner_has_its_id_its_name_and_its_segtax() -> None:
    unnamed = Catalog.from_snapshot(snapshot()).recipient(None)
    assert unnamed is not None
    shop, bank = unnamed.segments[1].partner, unnamed.segments[11].partner

    assert json.loads(shop.head + shop.tail) == {"id": "shop", "name": "Shop", "segment": []}
    assert json.loads(bank.head + bank.tail) == {
        "id": "bank",
        "name": 'The "Bank"',
        "segment": [],
        "ext": {"segtax": 501},
    }
    assert json.loads(unnamed.segments[11].json) == {"id": "201"}


def test_hold_out_is_the_fraction_asked_for_and_the_same_every_time() -> None:
    def held_out() -> set[bytes]:
        entry = RecipientEntry(1, "dsp", is_active=True, hold_out=0.25)
        recipient = Catalog.from_snapshot(snapshot(recipients=(entry,))).recipient("dsp")
        assert recipient is not None
        return {id_ for id_ in IDS if recipient.holds_out(id_)}

    assert len(held_out()) / len(IDS) == pytest.approx(0.25, abs=0.04)
    assert held_out() == held_out()


def test_hold_outs_of_two_recipients_are_drawn_apart() -> None:
    entries = tuple(
        RecipientEntry(i, name, is_active=True, hold_out=0.5) for i, name in enumerate("ab", 1)
    )
    catalog = Catalog.from_snapshot(snapshot(recipients=entries))
    a, b = catalog.recipient("a"), catalog.recipient("b")
    assert a is not None
    assert b is not None

    both = sum(a.holds_out(id_) and b.holds_out(id_) for id_ in IDS)

    assert both / len(IDS) == pytest.approx(0.25, abs=0.04)


def test_hold_out_of_none_and_of_all() -> None:
    none, all_ = (Catalog.from_snapshot(snapshot(), hold_out=x).recipient(None) for x in (0.0, 1.0))
    assert none is not None
    assert all_ is not None

    assert not any(map(none.holds_out, IDS))
    assert all(map(all_.holds_out, IDS))


@dataclass(frozen=True)
class _Tree:
    """A media group with two publishers and an advertiser; an agency; relations between them."""

    group: int = 10
    daily: int = 11
    weekly: int = 12
    in_group: int = 13
    related: int = 14
    agency: int = 20
    sub_account: int = 21
    alone: int = 30


TREE = _Tree()
TREE_CATALOG = Catalog.from_snapshot(
    snapshot(
        audiences=(),
        accounts=(
            AccountEntry(TREE.group, "media_group", "g", "Group", is_active=True),
            AccountEntry(
                TREE.daily,
                "publisher",
                "daily",
                "Daily",
                is_active=True,
                parent_id=TREE.group,
                related_ids=(TREE.related, TREE.agency),
            ),
            AccountEntry(
                TREE.weekly, "publisher", "weekly", "W", is_active=False, parent_id=TREE.group
            ),
            AccountEntry(
                TREE.in_group, "advertiser", "i", "I", is_active=True, parent_id=TREE.group
            ),
            AccountEntry(TREE.related, "advertiser", "r", "R", is_active=True),
            AccountEntry(TREE.agency, "agency", "a", "A", is_active=True),
            AccountEntry(
                TREE.sub_account, "advertiser", "s", "S", is_active=True, parent_id=TREE.agency
            ),
            AccountEntry(TREE.alone, "advertiser", "l", "L", is_active=True, parent_id=404),
        ),
    )
)
OWNERS = {TREE.in_group, TREE.related, TREE.agency, TREE.sub_account, TREE.alone}


@pytest.mark.parametrize(
    ("account_id", "publishers", "owners"),
    [
        pytest.param(TREE.alone, set(), {TREE.alone}, id="an advertiser: itself"),
        pytest.param(
            TREE.agency, set(), {TREE.agency, TREE.sub_account}, id="an agency: its sub accounts"
        ),
        pytest.param(TREE.sub_account, set(), {TREE.sub_account}, id="a sub account: itself"),
        pytest.param(
            TREE.daily,
            {"daily"},
            {TREE.related, TREE.agency, TREE.sub_account},
            id="a publisher: its inventory, its related advertisers",
        ),
        pytest.param(TREE.weekly, {"weekly"}, set(), id="a publisher that is no longer active"),
        pytest.param(
            TREE.group,
            {"daily", "weekly"},
            {TREE.in_group, TREE.related, TREE.agency, TREE.sub_account},
            id="a media group: its publishers' inventory, what they reach, its advertisers",
        ),
    ],
)
def test_opt_out_reaches_as_far_as_its_account(
    account_id: int, publishers: set[str], owners: set[int]
) -> None:
    reach = TREE_CATALOG.reach_of([account_id])

    assert reach is not None
    assert reach.publisher_ids == publishers
    assert reach.owner_ids & OWNERS == owners


def test_opt_outs_reach_together_as_far_as_each() -> None:
    reach = TREE_CATALOG.reach_of([TREE.alone, TREE.weekly])

    assert reach is not None
    assert reach.publisher_ids == {"weekly"}
    assert TREE.alone in reach.owner_ids


def test_global_opt_out_reaches_everything() -> None:
    assert TREE_CATALOG.reach_of([TREE.alone, EVERYONE]) is None


def test_opt_out_by_an_account_not_heard_of_reaches_everything() -> None:
    """The store may know an opt-out before its catalog knows the account: fails closed."""
    assert TREE_CATALOG.reach_of([999]) is None


def test_no_opt_out_reaches_nothing() -> None:
    assert TREE_CATALOG.reach_of([]) == Reach()


def test_circle_of_parents_ends() -> None:
    accounts = (
        AccountEntry(1, "advertiser", "a", "A", is_active=True, parent_id=2),
        AccountEntry(2, "advertiser", "b", "B", is_active=True, parent_id=1),
    )

    reach = Catalog.from_snapshot(snapshot(audiences=(), accounts=accounts)).reach_of([1])

    assert reach is not None
    assert reach.owner_ids == {1, 2}


def test_reach_agrees_with_what_the_ledger_forbids() -> None:
    """One rule in two planes: what the loader refuses to write the bid path does not show."""
    from segments.model.account import Account, AccountKind, AccountTree

    accounts = [
        Account(TREE.group, AccountKind.MEDIA_GROUP, "g", "g"),
        Account(TREE.daily, AccountKind.PUBLISHER, "daily", "d", TREE.group),
        Account(TREE.weekly, AccountKind.PUBLISHER, "weekly", "w", TREE.group),
        Account(TREE.in_group, AccountKind.ADVERTISER, "i", "i", TREE.group),
        Account(TREE.related, AccountKind.ADVERTISER, "r", "r"),
        Account(TREE.agency, AccountKind.AGENCY, "a", "a"),
        Account(TREE.sub_account, AccountKind.ADVERTISER, "s", "s", TREE.agency),
        Account(TREE.alone, AccountKind.ADVERTISER, "l", "l"),
    ]
    tree = AccountTree(accounts, [(TREE.daily, TREE.related), (TREE.daily, TREE.agency)])

    for account in accounts:
        reach = TREE_CATALOG.reach_of([account.id])
        assert reach is not None
        forbidden = {owner for owner in OWNERS if account.id in tree.forbidding(owner)}
        assert reach.owner_ids & OWNERS == forbidden
