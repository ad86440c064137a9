import pytest

from segments.model.account import PARENT_KINDS, Account, AccountKind, AccountTree, id_space

GROUP, PUBLISHER, AGENCY, SUB = 1, 2, 3, 4
SHOP, RELATED, OF_GROUP, STRANGER, LONE_PUBLISHER = 5, 6, 7, 8, 9

TREE = AccountTree(
    [
        Account(GROUP, AccountKind.MEDIA_GROUP, "g", "Group"),
        Account(PUBLISHER, AccountKind.PUBLISHER, "p", "Publisher", parent_id=GROUP),
        Account(AGENCY, AccountKind.AGENCY, "a", "Agency"),
        Account(SUB, AccountKind.ADVERTISER, "s", "Sub account", parent_id=AGENCY),
        Account(SHOP, AccountKind.ADVERTISER, "shop", "Related to the lone publisher"),
        Account(RELATED, AccountKind.ADVERTISER, "related", "Related to the group's publisher"),
        Account(OF_GROUP, AccountKind.ADVERTISER, "own", "The group's own", parent_id=GROUP),
        Account(STRANGER, AccountKind.ADVERTISER, "stranger", "Nobody's", is_active=False),
        Account(LONE_PUBLISHER, AccountKind.PUBLISHER, "l", "A publisher of no group"),
    ],
    [(PUBLISHER, RELATED), (PUBLISHER, AGENCY), (LONE_PUBLISHER, SHOP)],
)


@pytest.mark.parametrize(
    ("account_id", "expected"),
    [
        pytest.param(STRANGER, {STRANGER}, id="an advertiser reaches its own segments"),
        pytest.param(SUB, {SUB}, id="a sub account reaches its own, not its agency's"),
        pytest.param(LONE_PUBLISHER, {SHOP}, id="a publisher reaches its related advertisers'"),
        pytest.param(
            PUBLISHER, {RELATED, AGENCY, SUB}, id="what reaches an agency reaches its sub accounts"
        ),
        pytest.param(
            GROUP,
            {OF_GROUP, RELATED, AGENCY, SUB},
            id="a media group reaches its advertisers' and what its publishers reach",
        ),
        pytest.param(AGENCY, {AGENCY, SUB}, id="an agency reaches its own and its sub accounts'"),
    ],
)
def test_opt_out_reaches_the_owners_of_the_design_table(
    account_id: int, expected: set[int]
) -> None:
    owners = {SHOP, RELATED, OF_GROUP, STRANGER, AGENCY, SUB}

    restricted = {owner for owner in owners if account_id in TREE.forbidding(owner)}

    assert restricted == expected
    assert TREE.erased_by(account_id) == expected


def test_every_account_that_reaches_an_owner_forbids_it() -> None:
    assert TREE.forbidding(SUB) == {SUB, AGENCY, PUBLISHER, GROUP}
    assert TREE.forbidding(OF_GROUP) == {OF_GROUP, GROUP}


def test_switching_an_account_off_leaves_its_opt_outs_in_force() -> None:
    assert STRANGER in TREE.forbidding(STRANGER)


def test_unknown_owner_is_an_error_not_an_owner_whom_nobody_forbids() -> None:
    with pytest.raises(KeyError):
        TREE.forbidding(99)


def test_no_chain_of_parents_of_other_kinds_is_a_circle() -> None:
    """An advertiser may stand under an advertiser; a parent is there before its child."""

    def chains(kind: AccountKind, depth: int = 0) -> int:
        assert depth < len(AccountKind)
        others = PARENT_KINDS[kind] - {kind}
        return max((chains(parent, depth + 1) for parent in others), default=depth)

    assert max(map(chains, AccountKind)) == 1


def test_ids_are_unambiguous_among_partners_among_publishers_and_within_an_agency() -> None:
    group = Account(1, AccountKind.MEDIA_GROUP, "g", "Group")
    agency = Account(3, AccountKind.AGENCY, "a", "Agency")

    assert id_space(AccountKind.ADVERTISER, None) == id_space(AccountKind.AGENCY, None)
    assert id_space(AccountKind.ADVERTISER, group) == id_space(AccountKind.ADVERTISER, None)
    assert len({id_space(kind, None) for kind in AccountKind}) == 3
    assert id_space(AccountKind.ADVERTISER, agency) not in {
        id_space(kind, None) for kind in AccountKind
    }
