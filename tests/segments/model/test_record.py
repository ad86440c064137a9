from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segments.model.record import (
    EVERYONE,
    MAX_ACCOUNT_ID,
    MAX_AUDIENCE_ID,
    MAX_EXPIRY_DAY,
    NO_EXPIRY,
    NOTHING,
    Change,
    CorruptRecord,
    Membership,
    NewerRecord,
    OptOut,
    OptOutAction,
    Record,
    Tally,
    day_of,
    live,
    merged,
    opted_out,
    pack,
    unpack,
)
from tests.strategies import changes, damaged, opt_outs, records


@given(records)
def test_record_comes_back_from_its_bytes(record: Record) -> None:
    assert unpack(pack(record)) == record


@given(records, st.randoms(use_true_random=False))
def test_packed_form_does_not_depend_on_the_order_of_what_is_packed(
    record: Record, random: Random
) -> None:
    shuffled = Record(
        tuple(random.sample(record.opt_outs, len(record.opt_outs))),
        tuple(random.sample(record.memberships, len(record.memberships))),
    )

    assert pack(shuffled) == pack(record)


def test_packed_form_is_the_layout_that_the_module_draws() -> None:
    record = Record(
        (OptOut(EVERYONE, OptOutAction.RESTRICT), OptOut(300, OptOutAction.ERASURE)),
        (Membership(5, 2500), Membership(128, NO_EXPIRY)),
    )

    assert pack(record) == bytes.fromhex("11 02 0100 02ac02 05c409 80010000")


@given(damaged | st.binary(max_size=24))
@example(b"\x11\x00")
@example(b"\x10\x80\x00\x01\x02")
@example(b"\x10" + b"\x80" * 400 + b"\x01\x00\x00")
@example(b"\x11\x01\x01\xff\xff\xff\xff\x1f")
def test_bytes_are_read_only_if_they_are_what_pack_writes(raw: bytes) -> None:
    """
    Damage is refused, or it has made another record that is whole.
    """
    try:
        record = unpack(raw)
    except CorruptRecord:
        return
    assert pack(record) == raw


@given(records, st.integers(0, MAX_EXPIRY_DAY))
def test_bid_reads_the_opt_outs_and_the_audiences_that_hold_today(
    record: Record, today: int
) -> None:
    in_force = [id_ for id_, day in unpack(pack(record)).memberships if not 0 < day < today]

    assert live(pack(record), today) == (unpack(pack(record)).opt_outs, in_force)


@given(damaged | st.binary(max_size=24))
@example(b"\x11\x00")
@example(b"\x10\x80\x00\x01\x02")
def test_bid_refuses_the_records_that_can_not_be_unpacked(raw: bytes) -> None:
    try:
        unpack(raw)
    except CorruptRecord as corrupt:
        with pytest.raises(type(corrupt)):
            live(raw, 0)
    else:
        live(raw, 0)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="no bytes"),
        pytest.param(b"\x00", id="layout zero"),
        pytest.param(b"\x12", id="a flag that no version has defined"),
        pytest.param(b"\x11", id="opt-outs announced and missing"),
        pytest.param(b"\x11\x00", id="no opt-outs where some are announced"),
        pytest.param(b"\x11\x01\x03\x00", id="unknown action"),
        pytest.param(b"\x11\x02\x01\x05\x01\x04", id="opt-outs out of order"),
        pytest.param(b"\x11\x02\x02\x05\x01\x05", id="actions of one account out of order"),
        pytest.param(b"\x11\x02\x01\x05\x01\x05", id="an opt-out twice"),
        pytest.param(b"\x10\x00\x00\x00", id="audience zero"),
        pytest.param(b"\x10\x05\x00", id="a membership cut short"),
        pytest.param(b"\x10\x80", id="an audience id cut short"),
        pytest.param(b"\x10\x05\x00\x00\x04\x00\x00", id="memberships out of order"),
        pytest.param(b"\x10\x05\x00\x00\x05\x00\x00", id="an audience twice"),
        pytest.param(b"\x10\x85\x00\x00\x00", id="a number not in its shortest form"),
        pytest.param(b"\x10\xff\xff\xff\xff\x1f\x00\x00", id="a number above 32 bits"),
    ],
)
def test_corrupt_record_is_refused(raw: bytes) -> None:
    with pytest.raises(CorruptRecord):
        unpack(raw)


def test_record_of_a_later_layout_is_told_apart_from_a_corrupt_one() -> None:
    with pytest.raises(NewerRecord):
        unpack(b"\x20\x05\x00\x00")


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(Record((), (Membership(0, 1),)), id="audience zero"),
        pytest.param(Record((), (Membership(MAX_AUDIENCE_ID + 1, 1),)), id="audience too large"),
        pytest.param(Record((), (Membership(1, MAX_EXPIRY_DAY + 1),)), id="day too large"),
        pytest.param(Record((), (Membership(1, -1),)), id="day below zero"),
        pytest.param(Record((), (Membership(1, 1), Membership(1, 2))), id="an audience twice"),
        pytest.param(Record((OptOut(-1, OptOutAction.RESTRICT),)), id="account below zero"),
        pytest.param(
            Record((OptOut(MAX_ACCOUNT_ID + 1, OptOutAction.RESTRICT),)), id="account too large"
        ),
    ],
)
def test_what_could_not_be_read_again_is_not_packed(record: Record) -> None:
    with pytest.raises(ValueError, match=r"."):
        pack(record)


def test_action_that_is_none_is_not_packed() -> None:
    """
    Compiled, it is already no argument of its type; interpreted, no value.
    """
    with pytest.raises((ValueError, TypeError)):
        pack(Record((OptOut(1, 3),)))  # type: ignore[arg-type]


@given(records, st.lists(changes, max_size=5))
def test_merge_a_second_time_changes_nothing(record: Record, batch: list[Change]) -> None:
    once, _ = merged(record, batch)
    twice, _ = merged(once, batch)

    assert twice == once


@given(records, st.lists(changes, max_size=5, unique_by=lambda change: change.audience_id))
def test_merge_a_second_time_counts_nothing_as_changed(record: Record, batch: list[Change]) -> None:
    once, _ = merged(record, batch)
    _, tallies = merged(once, batch)

    assert all(tally.added == tally.renewed == tally.removed == 0 for tally in tallies)


@given(records, st.lists(changes, max_size=5))
def test_every_change_is_counted_once(record: Record, batch: list[Change]) -> None:
    _, tallies = merged(record, batch)

    assert [sum(tally) for tally in tallies] == [1] * len(batch)


@given(records, changes)
def test_add_then_remove_leaves_no_membership(record: Record, change: Change) -> None:
    add, remove = change._replace(is_add=True), change._replace(is_add=False)

    after, _ = merged(record, [add, remove])

    assert after.opt_outs == record.opt_outs
    assert after.memberships == tuple(
        m for m in record.memberships if m.audience_id != change.audience_id
    )


@given(records, st.lists(changes, max_size=4), st.randoms(use_true_random=False))
def test_changes_of_different_audiences_commute(
    record: Record, batch: list[Change], random: Random
) -> None:
    batch = list({change.audience_id: change for change in batch}.values())
    shuffled = random.sample(batch, len(batch))

    one, tallies = merged(record, batch)
    other, shuffled_tallies = merged(record, shuffled)

    assert one == other
    assert dict(zip(batch, tallies, strict=True)) == dict(
        zip(shuffled, shuffled_tallies, strict=True)
    )


@given(records, st.lists(changes | opt_outs, max_size=6), opt_outs)
def test_opt_out_is_seen_by_a_bid_whatever_else_happens_before_or_after(
    record: Record, deeds: list[Change | OptOut], opt_out: OptOut
) -> None:
    for at in range(len(deeds) + 1):
        after = record
        for deed in [*deeds[:at], opt_out, *deeds[at:]]:
            after = opted_out(after, deed) if isinstance(deed, OptOut) else merged(after, [deed])[0]

        assert opt_out in after.opt_outs


@given(records, changes, opt_outs)
def test_forbidden_membership_is_not_added_after_an_opt_out(
    record: Record, change: Change, opt_out: OptOut
) -> None:
    add = change._replace(is_add=True, forbidden_by=change.forbidden_by | {opt_out.account_id})
    told_no = opted_out(record, opt_out)

    after, tallies = merged(told_no, [add])

    assert after == told_no
    assert tallies == (Tally(refused=1),)


@given(records, changes)
def test_global_opt_out_forbids_every_addition(record: Record, change: Change) -> None:
    told_no = opted_out(record, OptOut(EVERYONE, OptOutAction.RESTRICT))

    after, _ = merged(told_no, [change._replace(is_add=True)])

    assert after == told_no


@given(records, st.lists(changes, max_size=4))
def test_global_erasure_leaves_no_membership_in_any_order(
    record: Record, batch: list[Change]
) -> None:
    erasure = OptOut(EVERYONE, OptOutAction.ERASURE)

    before = merged(opted_out(record, erasure), batch)[0]
    after = opted_out(merged(record, batch)[0], erasure)

    assert before == after
    assert after.memberships == ()


def test_removal_happens_in_spite_of_an_opt_out() -> None:
    record = Record((OptOut(EVERYONE, OptOutAction.RESTRICT),), (Membership(1), Membership(2)))

    after, tallies = merged(record, [Change(1, is_add=False)])

    assert after == record._replace(memberships=(Membership(2),))
    assert tallies == (Tally(removed=1),)


def test_opt_out_of_another_account_forbids_nothing() -> None:
    record = Record((OptOut(7, OptOutAction.RESTRICT),))

    after, tallies = merged(record, [Change(1, is_add=True, forbidden_by=frozenset({8}))])

    assert after.memberships == (Membership(1),)
    assert tallies == (Tally(added=1),)


def test_membership_with_another_expiry_is_renewed() -> None:
    after, tallies = merged(
        Record((), (Membership(1, 10),)), [Change(1, is_add=True, expiry_day=20)]
    )

    assert after.memberships == (Membership(1, 20),)
    assert tallies == (Tally(renewed=1),)


@given(records, opt_outs)
def test_opt_out_a_second_time_changes_nothing(record: Record, opt_out: OptOut) -> None:
    once = opted_out(record, opt_out)

    assert opted_out(once, opt_out) == once


def test_restriction_keeps_what_is_held() -> None:
    record = Record((), (Membership(1),))

    after = opted_out(record, OptOut(EVERYONE, OptOutAction.RESTRICT))

    assert after.memberships == record.memberships


def test_erasure_by_an_account_deletes_the_memberships_of_its_audiences_alone() -> None:
    record = Record((), (Membership(1), Membership(2), Membership(3)))

    after = opted_out(record, OptOut(7, OptOutAction.ERASURE), erased_audience_ids={1, 3, 9})

    assert after == Record((OptOut(7, OptOutAction.ERASURE),), (Membership(2),))


def test_id_never_seen_is_recorded_with_its_opt_out() -> None:
    after = opted_out(NOTHING, OptOut(EVERYONE, OptOutAction.ERASURE))

    assert after == Record((OptOut(EVERYONE, OptOutAction.ERASURE),), ())


@pytest.mark.parametrize(
    ("at_s", "day"),
    [
        pytest.param(1_577_836_800, 0, id="the first second of 2020"),
        pytest.param(1_577_923_199.9, 0, id="the last moment of the first day"),
        pytest.param(1_577_923_200, 1, id="the second day"),
        pytest.param(1_577_836_799.9, -1, id="the moment before"),
    ],
)
def test_days_are_counted_from_2020_in_utc(at_s: float, day: int) -> None:
    assert day_of(at_s) == day


def test_tallies_add_up() -> None:
    assert Tally(1, 2, 3, 4, 5) + Tally(10, 20, 30, 40, 50) == Tally(11, 22, 33, 44, 55)
