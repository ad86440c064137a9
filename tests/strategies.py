"""Hypothesis strategies for records and what is done to them."""

from hypothesis import strategies as st

from segments.model.record import (
    MAX_ACCOUNT_ID,
    MAX_AUDIENCE_ID,
    MAX_EXPIRY_DAY,
    Change,
    Membership,
    OptOut,
    OptOutAction,
    Record,
    pack,
)

# Few different ones, so that they meet; and the borders of the varint.
audience_ids = st.integers(1, 6) | st.sampled_from(
    [127, 128, 16_383, 16_384, 2**21, 2**28, MAX_AUDIENCE_ID]
)
account_ids = st.integers(0, 4) | st.sampled_from([127, 128, 2**28, MAX_ACCOUNT_ID])
expiry_days = st.integers(0, 3) | st.sampled_from([255, 256, MAX_EXPIRY_DAY])

opt_outs = st.builds(OptOut, account_ids, st.sampled_from(OptOutAction))
changes = st.builds(
    Change,
    audience_ids,
    st.booleans(),
    expiry_days,
    st.frozensets(account_ids, max_size=3),
)


def _record(opt_outs: set[OptOut], audience_to_expiry: dict[int, int]) -> Record:
    memberships = (Membership(*item) for item in sorted(audience_to_expiry.items()))
    return Record(tuple(sorted(opt_outs)), tuple(memberships))


records = st.builds(
    _record,
    st.sets(opt_outs, max_size=3),
    st.dictionaries(audience_ids, expiry_days, max_size=5),
)


def _cut_or_changed(raw: bytes, at: int, byte: int, is_cut: bool) -> bytes:
    at %= len(raw)
    return raw[:at] if is_cut else raw[:at] + bytes([byte]) + raw[at + 1 :]


damaged = st.builds(
    _cut_or_changed,
    records.map(pack),
    st.integers(0, 40),
    st.integers(0, 255),
    st.booleans(),
)
"""Bytes that were a record, with one of them changed or the end cut off."""
