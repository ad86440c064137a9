"""TC strings: what they permit, what can't be read, and `iab-tcf` as oracle of both."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iab_tcf import decode_v2

from rtb.consent.tcf import (
    DISCLOSED_ALWAYS_DS,
    DISCLOSED_IF_PRESENT_DS,
    MAX_CHARS,
    MAX_RESTRICTIONS,
    Vendor,
    refusal_of_tc_string,
)
from rtb.outcome import Reason
from tests.rtb.consent.strings import (
    TCF_23_SINCE_DS,
    base64url,
    disclosed,
    number,
    tc_bits,
    tc_string,
    vendors,
)

US = Vendor.of(148, (1, 3, 4), TCF_23_SINCE_DS)
_EVERYONE = [(1, 65_535)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(tc_string(), id="bits"),
        pytest.param(tc_string(consents=vendors([1, 148], as_range=True)), id="one entry"),
        pytest.param(tc_string(consents=vendors(range(140, 150), as_range=True)), id="a range"),
        pytest.param(tc_string(consents=vendors([148, 149], as_range=True)), id="its first"),
        pytest.param(tc_string(consents=vendors([147, 148], as_range=True)), id="its last"),
        pytest.param(tc_string(purposes=[1, 3, 4]), id="only the purposes that we need"),
        pytest.param(tc_string(interests=vendors(range(1, 900))), id="interests as bits"),
        pytest.param(
            tc_string(interests=vendors(range(1, 900, 9), as_range=True)), id="interests as ranges"
        ),
        pytest.param(tc_string(restrictions=[(3, 1, _EVERYONE)]), id="consent is required"),
        pytest.param(tc_string(restrictions=[(2, 0, _EVERYONE)]), id="another purpose"),
        pytest.param(tc_string(restrictions=[(3, 0, [(1, 147), (149, 200)])]), id="not for us"),
        pytest.param(tc_string(restrictions=[(0, 0, _EVERYONE)]), id="no purpose"),
        pytest.param(tc_string(restrictions=[(28, 2, _EVERYONE)]), id="a purpose beyond the last"),
        pytest.param(tc_string() + ".QAAA.YAAAAAAA", id="with segments behind the core"),
        pytest.param(tc_string() + ".Q!!!", id="with a damaged segment that has no say"),
        pytest.param(f"{tc_string()}.{disclosed([148])}", id="disclosed, as bits"),
        pytest.param(
            f"{tc_string()}.{disclosed([2, *range(140, 150)], as_range=True)}",
            id="disclosed, as ranges",
        ),
        pytest.param(
            f"{tc_string()}.{disclosed([148])}.YAAA.{disclosed([1, 148])}", id="disclosed twice"
        ),
        pytest.param(tc_string(created_ds=TCF_23_SINCE_DS - 1), id="of the day before TCF 2.3"),
        pytest.param(
            f"{tc_string(created_ds=TCF_23_SINCE_DS)}.{disclosed([148])}", id="of TCF 2.3"
        ),
        pytest.param(
            tc_string(restrictions=[(7, 0, [(i, i) for i in range(200, 320)])]),
            id="as many entries as there are",
        ),
        pytest.param(tc_string() + ".", id="with an empty segment"),
    ],
)
def test_consent_for_us_and_our_purposes_permits(text: str) -> None:
    assert refusal_of_tc_string(text, US) is Reason.NONE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(tc_string(purposes=[3, 4]), Reason.TCF_NO_PURPOSE, id="purpose 1"),
        pytest.param(tc_string(purposes=[1, 4]), Reason.TCF_NO_PURPOSE, id="purpose 3"),
        pytest.param(tc_string(purposes=[1, 3]), Reason.TCF_NO_PURPOSE, id="purpose 4"),
        pytest.param(tc_string(purposes=[]), Reason.TCF_NO_PURPOSE, id="no purpose at all"),
        pytest.param(
            tc_string(consents=vendors([1, 755])), Reason.TCF_NO_VENDOR, id="not us, as bits"
        ),
        pytest.param(
            tc_string(consents=vendors([1, 147])),
            Reason.TCF_NO_VENDOR,
            id="the list ends before us",
        ),
        pytest.param(tc_string(consents=vendors([])), Reason.TCF_NO_VENDOR, id="no vendor at all"),
        pytest.param(
            tc_string(consents=vendors([1, 147, 149, 755], as_range=True)),
            Reason.TCF_NO_VENDOR,
            id="not us, as ranges",
        ),
        pytest.param(
            tc_string(consents=vendors([1, 149]), interests=vendors([148])),
            Reason.TCF_NO_VENDOR,
            id="interest is no consent",
        ),
        pytest.param(
            f"{tc_string()}.{disclosed([1, 147, 149])}",
            Reason.TCF_NOT_DISCLOSED,
            id="not disclosed",
        ),
        pytest.param(
            f"{tc_string()}.{disclosed([147, 149], as_range=True)}",
            Reason.TCF_NOT_DISCLOSED,
            id="not disclosed, as ranges",
        ),
        pytest.param(
            f"{tc_string()}.{disclosed([])}", Reason.TCF_NOT_DISCLOSED, id="nobody disclosed"
        ),
        pytest.param(
            f"{tc_string()}.{disclosed([148])}.{disclosed([1])}",
            Reason.TCF_NOT_DISCLOSED,
            id="disclosed in one of two",
        ),
        pytest.param(
            f"{tc_string()}.{disclosed([1])}.{disclosed([148])}",
            Reason.TCF_NOT_DISCLOSED,
            id="disclosed in the other",
        ),
        pytest.param(
            tc_string(created_ds=TCF_23_SINCE_DS) + ".YAAA",
            Reason.TCF_NOT_DISCLOSED,
            id="nothing disclosed since TCF 2.3",
        ),
        pytest.param(
            tc_string(restrictions=[(3, 0, _EVERYONE)]), Reason.TCF_RESTRICTED, id="not allowed"
        ),
        pytest.param(
            tc_string(restrictions=[(4, 2, [(148, 148)])]),
            Reason.TCF_RESTRICTED,
            id="legitimate interest is required",
        ),
        pytest.param(
            tc_string(restrictions=[(1, 3, _EVERYONE)]), Reason.TCF_RESTRICTED, id="type unknown"
        ),
        pytest.param(
            tc_string(restrictions=[(2, 0, _EVERYONE), (3, 0, [(148, 150)]), (4, 1, [(9, 9)])]),
            Reason.TCF_RESTRICTED,
            id="one of several",
        ),
    ],
)
def test_what_withholds_it_refuses(text: str, reason: Reason) -> None:
    assert refusal_of_tc_string(text, US) is reason


_MANY = [(2, 0, [(9, 9)])] * MAX_RESTRICTIONS


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("CPX", id="too short"),
        pytest.param(".", id="a dot"),
        pytest.param("💥" * 60, id="not ASCII"),
        pytest.param("C\ud800" + "A" * 60, id="half a character"),
        pytest.param(tc_string().replace("A", "=", 1), id="padding within"),
        pytest.param(tc_string() + "=", id="padding behind"),
        pytest.param(tc_string() + "\n", id="a line break"),
        pytest.param(tc_string() + "+", id="standard base64"),
        pytest.param(tc_string(version=1), id="version 1"),
        pytest.param(tc_string(version=3), id="version 3"),
        pytest.param(tc_string() + "A" * MAX_CHARS, id="too long"),
        pytest.param(tc_string() + ".I", id="a segment of disclosed vendors that is cut off"),
        pytest.param(f"{tc_string()}.{disclosed([148])[:-1]}", id="cut off within its vendors"),
        pytest.param(
            f"{tc_string()}.{disclosed([148, 150], as_range=True)[:-3]}", id="within its ranges"
        ),
        pytest.param(
            f"{tc_string()}.{disclosed([148])}.{disclosed([148])}!", id="one of two is no base64"
        ),
        pytest.param(
            f"{tc_string()}.{disclosed([1])}.I", id="one does not name us, another is cut off"
        ),
        pytest.param(f"{tc_string()}.é{disclosed([148])}", id="a segment of no type"),
        pytest.param(f"{tc_string()}.{tc_string()}", id="another core"),
        pytest.param(base64url(tc_bits()[:242]), id="cut off within the vendors"),
        pytest.param(
            base64url(tc_bits(consents=vendors([148], max_id=148))[:396]),
            id="cut off behind the vendors",
        ),
        pytest.param(
            base64url(tc_bits(consents=vendors([148], as_range=True))[:270]),
            id="cut off within the ranges",
        ),
        pytest.param(
            base64url(tc_bits(interests=number(900, 16) + "0" + "1" * 40)),
            id="cut off within the interests",
        ),
        pytest.param(
            base64url(tc_bits(interests=number(900, 16) + "1" + number(9, 12) + "0" * 40)),
            id="cut off within the interests, as ranges",
        ),
        pytest.param(
            base64url(tc_bits(interests=number(900, 16) + "1")[:-12]), id="interests without ranges"
        ),
        pytest.param(
            base64url(tc_bits(restrictions=[(3, 1, _EVERYONE)])[:-12]),
            id="cut off within a restriction's vendors",
        ),
        pytest.param(
            base64url(tc_bits()[:-12] + number(2, 12)), id="cut off before the restrictions"
        ),
        pytest.param(
            tc_string(restrictions=[(3, 1, [(200, 100)])]), id="a range that ends before it starts"
        ),
        pytest.param(
            tc_string(consents=number(500, 16) + "1" + number(1, 12) + "1" + number(200, 16)
                      + number(100, 16)),
            id="such a range among the vendors",
        ),
        pytest.param(tc_string(restrictions=[*_MANY, _MANY[0]]), id="too many restrictions"),
    ],
)  # fmt: skip
def test_what_can_not_be_read_refuses(text: str) -> None:
    assert refusal_of_tc_string(text, US) is Reason.TCF_UNREADABLE


def test_string_cut_short_anywhere_permits_nothing() -> None:
    """
    What is missing may be the no: a publisher's restriction stands last of all.
    """
    whole = base64url(tc_bits(restrictions=[(3, 0, [(1, 9), (148, 148)])]))

    refusals = {refusal_of_tc_string(whole[:length], US) for length in range(len(whole))}

    assert Reason.NONE not in refusals
    assert refusal_of_tc_string(whole, US) is Reason.TCF_RESTRICTED


def test_as_many_restrictions_as_there_can_be_are_read() -> None:
    assert refusal_of_tc_string(tc_string(restrictions=_MANY), US) is Reason.NONE


def test_string_as_long_as_there_can_be_is_read() -> None:
    """
    Publishers' restrictions make strings of 12,000 characters: they have no bit field.
    """
    others = [(i, i) for i in range(200, 4_400, 2)]
    text = tc_string(restrictions=[(7, 0, others), (9, 1, others), (3, 0, [(148, 148)])])

    assert 11_000 < len(text) < MAX_CHARS
    assert refusal_of_tc_string(text, US) is Reason.TCF_RESTRICTED
    text = tc_string(restrictions=[(7, 0, others), (9, 1, others), (3, 0, [(147, 147)])])
    assert refusal_of_tc_string(text, US) is Reason.NONE


@pytest.mark.parametrize(
    ("since_ds", "of_2023", "of_2026"),
    [
        pytest.param(DISCLOSED_IF_PRESENT_DS, Reason.NONE, Reason.NONE, id="present"),
        pytest.param(TCF_23_SINCE_DS, Reason.NONE, Reason.TCF_NOT_DISCLOSED, id="a day"),
        pytest.param(
            DISCLOSED_ALWAYS_DS, Reason.TCF_NOT_DISCLOSED, Reason.TCF_NOT_DISCLOSED, id="always"
        ),
    ],
)
def test_from_when_on_disclosed_vendors_must_be_there_is_configured(
    since_ds: int, of_2023: Reason, of_2026: Reason
) -> None:
    vendor = Vendor.of(148, (1, 3, 4), since_ds)
    new = tc_string(created_ds=TCF_23_SINCE_DS)

    assert refusal_of_tc_string(tc_string(), vendor) is of_2023
    assert refusal_of_tc_string(new, vendor) is of_2026
    assert refusal_of_tc_string(f"{new}.{disclosed([148])}", vendor) is Reason.NONE
    assert refusal_of_tc_string(f"{new}.{disclosed([1])}", vendor) is Reason.TCF_NOT_DISCLOSED


@pytest.mark.parametrize(("number", "purposes"), [(0, [1]), (65_536, [1]), (1, [0]), (1, [25])])
def test_vendor_that_can_not_be_is_refused(number: int, purposes: list[int]) -> None:
    with pytest.raises(ValueError, match="is a number from 1 to"):
        Vendor.of(number, purposes, TCF_23_SINCE_DS)


_IDS = st.sets(st.integers(1, 400), max_size=30) | st.sets(st.sampled_from(range(145, 151)))
_RANGES = st.lists(
    st.tuples(st.integers(1, 400), st.integers(0, 40)).map(lambda r: (r[0], r[0] + r[1])),
    max_size=6,
)
_RESTRICTIONS = st.lists(st.tuples(st.integers(1, 24), st.integers(0, 2), _RANGES), max_size=5)
_SECTIONS = st.builds(lambda ids, as_range: vendors(ids, as_range=as_range), _IDS, st.booleans())
_PURPOSES = st.sets(st.integers(1, 24), max_size=3) | st.just({1, 3, 4})


@settings(max_examples=1_000, deadline=None)
@given(
    consented=st.sets(st.integers(1, 24)) | st.just({1, 3, 4}),
    consents=_SECTIONS,
    interests=_SECTIONS,
    restrictions=_RESTRICTIONS,
    wanted=_PURPOSES,
    who=st.integers(1, 402) | st.just(148),
)
def test_iab_tcf_reads_the_same(
    *,
    consented: set[int],
    consents: str,
    interests: str,
    restrictions: list[tuple[int, int, list[tuple[int, int]]]],
    wanted: set[int],
    who: int,
) -> None:
    text = tc_string(consented, consents, interests, restrictions)
    oracle = decode_v2(text)
    if not all(oracle.is_purpose_allowed(purpose) for purpose in wanted):
        due = Reason.TCF_NO_PURPOSE
    elif not oracle.is_vendor_allowed(who):
        due = Reason.TCF_NO_VENDOR
    elif any(
        entry.purpose_id in wanted
        and entry.restriction_type != 1
        and any(start <= who <= end for start, end in entry.restrictions_range)
        for entry in oracle.pub_restriction_entries
    ):
        due = Reason.TCF_RESTRICTED
    else:
        due = Reason.NONE

    refusal = refusal_of_tc_string(text, Vendor.of(who, wanted, TCF_23_SINCE_DS))

    assert refusal is due
