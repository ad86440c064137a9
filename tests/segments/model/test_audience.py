import pytest

from segments.model.account import Account, AccountKind, AccountTree
from segments.model.audience import Audience, change
from segments.model.record import MAX_EXPIRY_DAY, NO_EXPIRY, Change

TREE = AccountTree(
    [
        Account(1, AccountKind.AGENCY, "a", "Agency"),
        Account(2, AccountKind.ADVERTISER, "s", "Sub account", parent_id=1),
    ],
    [],
)
_NEW_YEAR_2020_S = 1_577_836_800
_DAY_S = 86_400


def an_audience(ttl_days: int | None = None) -> Audience:
    return Audience(id=7, owner_id=2, partner_id=1, segment_id="123", name="x", ttl_days=ttl_days)


def test_addition_is_forbidden_by_whoever_reaches_the_owner() -> None:
    actual = change(an_audience(), is_add=True, tree=TREE, now_s=0)

    assert actual == Change(7, True, NO_EXPIRY, frozenset({1, 2}))


def test_removal_is_forbidden_by_nobody_and_expires_never() -> None:
    actual = change(an_audience(ttl_days=3), is_add=False, tree=TREE, now_s=_NEW_YEAR_2020_S)

    assert actual == Change(7, False, NO_EXPIRY, frozenset())


@pytest.mark.parametrize(
    ("ttl_days", "now_s", "expected"),
    [
        pytest.param(None, _NEW_YEAR_2020_S, NO_EXPIRY, id="no ttl: for good"),
        pytest.param(1, _NEW_YEAR_2020_S, 1, id="to the end of tomorrow"),
        pytest.param(1, _NEW_YEAR_2020_S + _DAY_S - 1, 1, id="at any time of the day"),
        pytest.param(30, _NEW_YEAR_2020_S + 365 * _DAY_S, 395, id="days from now"),
        pytest.param(36_500, _NEW_YEAR_2020_S + 30_000 * _DAY_S, MAX_EXPIRY_DAY, id="the last day"),
    ],
)
def test_membership_holds_for_ttl_days_and_the_rest_of_a_day(
    ttl_days: int | None, now_s: float, expected: int
) -> None:
    actual = change(an_audience(ttl_days), is_add=True, tree=TREE, now_s=now_s)

    assert actual.expiry_day == expected
