"""
Both planes work out how far an opt-out reaches: the loader refuses by it, the
bid path hides by it. Each has the accounts in a form of its own, and they must
not differ by a single account: what one lets in the other must not show.
"""

from hypothesis import given
from hypothesis import strategies as st

from rtb.catalog import _reaches
from segments.model.account import PARENT_KINDS, PARTNER_KINDS, Account, AccountKind, AccountTree
from segments.model.catalog import AccountEntry


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[list[Account], list[tuple[int, int]]]:
    accounts: list[Account] = []
    for number, kind in enumerate(
        draw(st.lists(st.sampled_from(AccountKind), max_size=12)), start=1
    ):
        parents = [account.id for account in accounts if account.kind in PARENT_KINDS[kind]]
        parent_id = draw(st.sampled_from([None, *parents]))
        accounts.append(Account(number, kind, f"id-{number}", "x", parent_id))
    pairs = [
        (publisher.id, partner.id)
        for publisher in accounts
        for partner in accounts
        if publisher.kind is AccountKind.PUBLISHER and partner.kind in PARTNER_KINDS
    ]
    relations = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return accounts, relations


@given(ledgers())
def test_loader_and_bid_path_agree_how_far_an_opt_out_reaches(
    ledger: tuple[list[Account], list[tuple[int, int]]],
) -> None:
    accounts, relations = ledger
    tree = AccountTree(accounts, relations)
    entries = {
        account.id: AccountEntry(
            account.id,
            account.kind.value,
            account.public_id,
            account.name,
            account.is_active,
            account.parent_id,
            tuple(partner for publisher, partner in relations if publisher == account.id),
        )
        for account in accounts
    }
    partner_ids = {account.id for account in accounts if account.kind in PARTNER_KINDS}

    shown = {number: reach.owner_ids & partner_ids for number, reach in _reaches(entries).items()}

    assert shown == {account.id: tree.erased_by(account.id) for account in accounts}
