"""What is published of a record is decided once, in plain words; the quick way agrees with it."""

from hypothesis import given
from hypothesis import strategies as st

from segments.model.record import EVERYONE, CorruptRecord, Record, pack, unpack
from segments.publish.part import UNREADABLE, Scope, are_whole, published
from tests.strategies import records

numbers = st.integers(1, 300) | st.sampled_from([127, 128, 16_383, 16_384, 2**21, 2**28, 2**32 - 1])
scopes = st.builds(
    lambda shown, hidden_by, without: Scope(
        shown, {EVERYONE: shown, **hidden_by}, without - hidden_by.keys()
    ),
    st.frozensets(numbers),
    st.dictionaries(st.integers(1, 9), st.frozensets(numbers), max_size=4),
    st.frozensets(st.integers(1, 9)),
)


@given(record=records, scope=scopes, part=st.sampled_from(["all", "some", "none"]))
def test_published_record_is_what_its_scope_says(record: Record, scope: Scope, part: str) -> None:
    held = {each.audience_id for each in record.memberships}
    shown = {"all": held, "some": set(sorted(held)[::2]), "none": set()}[part]
    scope = scope._replace(audience_ids=scope.audience_ids - held | shown)
    expected = scope.of_record(record)

    found = published(pack(record), scope)

    assert found == (pack(expected) if any(expected) else b"")


@given(
    some=st.lists(records, max_size=3), noise=st.sampled_from([(), (b"\x10\x01",)]), scope=scopes
)
def test_whole_records_are_published_as_they_are(
    some: list[Record], noise: tuple[bytes, ...], scope: Scope
) -> None:
    # All audiences but one are shown, so that either answer is frequent.
    held = {each.audience_id for record in some for each in record.memberships}
    scope = scope._replace(audience_ids=scope.audience_ids | held - {min(held, default=0) | 1})
    raws = [*map(pack, some), *noise]

    is_whole = are_whole(raws, scope)

    # A record with opt-outs is read in full, though all of it may be published.
    assert is_whole == (
        not any(record.opt_outs for record in some)
        and all(published(raw, scope) == raw for raw in raws)
    )
    assert are_whole(raws, None)


@given(raw=st.binary(max_size=12) | st.binary(max_size=11).map(b"\x10".__add__), scope=scopes)
def test_noise_is_published_as_what_nobody_can_read(raw: bytes, scope: Scope) -> None:
    try:
        record = scope.of_record(unpack(raw))
    except CorruptRecord:
        assert published(raw, scope) == UNREADABLE
    else:
        assert published(raw, scope) == (pack(record) if any(record) else b"")
