"""GPP strings: which sections there are, and which of them decide."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtb.consent.gpp import MAX_CHARS, MAX_ID, ids_in_header, refusal_of_gpp
from rtb.consent.tcf import Vendor
from rtb.outcome import Reason
from tests.rtb.consent.strings import (
    TCF_23_SINCE_DS,
    US_SECTIONS,
    base64url,
    disclosed,
    fibonacci,
    gpc,
    gpp_header,
    gpp_string,
    number,
    tc_string,
    us_section,
)

US = Vendor.of(148, (1, 3, 4), TCF_23_SINCE_DS)


def _refusal(gpp: str, *ids: int, **decided: bool) -> Reason:
    return _refusal_of([gpp], [list(ids)] if ids else [], **decided)


def _refusal_of(
    gpps: list[str],
    gpp_sids: list[list[int]],
    *,
    without_sid_refuses: bool = True,
    every_section: bool = False,
    personal_data_2_permits: bool = False,
) -> Reason:
    return refusal_of_gpp(
        gpps,
        gpp_sids,
        US,
        without_sid_refuses=without_sid_refuses,
        every_section=every_section,
        personal_data_2_permits=personal_data_2_permits,
    )


@pytest.mark.parametrize(
    ("header", "ids"),
    [
        pytest.param("DBABM", [2], id="header example 1"),
        pytest.param("DBABMA", [2], id="string example 1"),
        pytest.param("DBACNY", [2, 6], id="header example 2"),
        pytest.param("DBACNYA", [2, 6], id="string example 2"),
        pytest.param("DBABjw", [5, 6], id="header example 3"),
        pytest.param("DBAA", [], id="no section"),
    ],
)
def test_headers_of_the_document_are_read(header: str, ids: list[int]) -> None:
    assert ids_in_header(header) == ids


@settings(deadline=None)
@given(st.sets(st.integers(1, MAX_ID), max_size=20), st.booleans(), st.sampled_from(["", "A"]))
def test_header_is_read_as_written(ids: set[int], as_ranges: bool, filling: str) -> None:
    header = gpp_header(sorted(ids), as_ranges=as_ranges)

    assert ids_in_header(header + filling) == sorted(ids)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param("DB", id="without a count"),
        pytest.param("CBABM", id="another type"),
        pytest.param("DCABM", id="another version"),
        pytest.param("DB!BM", id="not base64"),
        pytest.param("DBABM" + "A" * 64, id="too long"),
        pytest.param("DBAB", id="fewer ids than counted"),
        pytest.param(base64url("000011000001" + number(1, 12) + "1011"), id="a range without end"),
        pytest.param(base64url("000011000001" + number(1, 12) + "011" + "1"), id="a bit too many"),
        pytest.param(base64url("000011000001" + number(33, 12) + "011" * 33), id="too many items"),
        pytest.param(
            base64url("000011000001" + number(1, 12) + "0" + fibonacci(90)), id="too large an id"
        ),
        pytest.param(
            base64url("000011000001" + number(2, 12) + ("0" + fibonacci(40)) * 2),
            id="ids that add up to too much",
        ),
        pytest.param(base64url("000011000001" + number(1, 12) + "0" * 30), id="zeros for an id"),
    ],
)
def test_header_that_can_not_be_read_refuses(header: str) -> None:
    assert ids_in_header(header) is None
    assert _refusal(f"{header}~{us_section(7)}", 7) is Reason.GPP_UNREADABLE


@pytest.mark.parametrize(
    ("gpp", "id_", "reason"),
    [
        pytest.param("DBABLA~BVQqAAAAAgA.QA", 7, Reason.NONE, id="usnat"),
        pytest.param("DBABLA~BVVqAAAAAmA.YA", 7, Reason.GPP_GPC, id="usnat with GPC"),
        pytest.param("DBABLA~BVVVAAAAAgA.QA", 7, Reason.GPP_OPT_OUT, id="usnat opted out"),
        pytest.param(
            "DBACNYA~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA~1YNN",
            2,
            Reason.TCF_NO_PURPOSE,
            id="the document's example, TCF",
        ),
        pytest.param(
            "DBACNYA~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA~1YNN",
            6,
            Reason.NONE,
            id="the document's example, US Privacy",
        ),
    ],
)
def test_strings_in_the_wild_are_read(gpp: str, id_: int, reason: Reason) -> None:
    assert _refusal(gpp, id_) is reason


@pytest.mark.parametrize(("id_", "version"), US_SECTIONS)
def test_each_section_decides_by_itself(id_: int, version: int) -> None:
    """
    The section that applies is read at its place, and no other has a say.
    """
    sections = {i: us_section(i, SaleOptOut=1) for i in range(7, 28)}
    sections |= {2: "unreadable", 6: "1YYN", id_: us_section(id_, version)}
    gpp = gpp_string(sections)

    assert _refusal(gpp, id_) is Reason.NONE
    assert _refusal(gpp, id_, 7 if id_ != 7 else 8) is Reason.GPP_OPT_OUT


@pytest.mark.parametrize(
    ("sections", "id_", "reason"),
    [
        pytest.param({2: tc_string()}, 2, Reason.NONE, id="TCF"),
        pytest.param({2: tc_string() + ".YAAA"}, 2, Reason.NONE, id="TCF with segments"),
        pytest.param(
            {2: f"{tc_string()}.{disclosed([1])}"}, 2, Reason.TCF_NOT_DISCLOSED, id="not disclosed"
        ),
        pytest.param({2: tc_string([1])}, 2, Reason.TCF_NO_PURPOSE, id="TCF without a purpose"),
        pytest.param({2: "CPX"}, 2, Reason.TCF_UNREADABLE, id="TCF garbage"),
        pytest.param({6: "1YNN"}, 6, Reason.NONE, id="US Privacy"),
        pytest.param({6: "1---"}, 6, Reason.NONE, id="US Privacy does not apply"),
        pytest.param({6: "1YYN"}, 6, Reason.US_PRIVACY_OPT_OUT, id="US Privacy opt-out"),
        pytest.param({6: "1YY"}, 6, Reason.US_PRIVACY_UNREADABLE, id="US Privacy garbage"),
        pytest.param({7: us_section(7, 1, gpc(True))}, 7, Reason.GPP_GPC, id="usnat GPC"),
        pytest.param({7: ""}, 7, Reason.GPP_MISSING, id="an empty section"),
        pytest.param({7: us_section(7)}, 8, Reason.GPP_MISSING, id="another section"),
        pytest.param({7: us_section(7)}, 5, Reason.GPP_SECTION_UNKNOWN, id="Canada"),
    ],
)
def test_section_that_applies_must_permit(
    sections: dict[int, str], id_: int, reason: Reason
) -> None:
    assert _refusal(gpp_string(sections), id_) is reason


@pytest.mark.parametrize(
    "gpp",
    [
        pytest.param(f"{gpp_header([7])}~{us_section(7)}~{us_section(8)}", id="one too many"),
        pytest.param(f"{gpp_header([7, 8])}~{us_section(7)}", id="one too few"),
        pytest.param(gpp_header([7]), id="none at all"),
        pytest.param(gpp_header([7]) + "~" * 5_000, id="thousands"),
        pytest.param(gpp_string({7: us_section(7)}) + "A" * MAX_CHARS, id="too long"),
    ],
)
def test_string_whose_sections_are_not_those_of_its_header_refuses(gpp: str) -> None:
    assert _refusal(gpp, 7) is Reason.GPP_UNREADABLE
    assert _refusal(gpp) is Reason.GPP_UNREADABLE


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        pytest.param({}, Reason.NONE, id="none"),
        pytest.param({7: us_section(7), 8: us_section(8)}, Reason.NONE, id="both permit"),
        pytest.param(
            {7: us_section(7), 8: us_section(8, SaleOptOut=1)}, Reason.GPP_OPT_OUT, id="one refuses"
        ),
        pytest.param({2: tc_string([1])}, Reason.TCF_NO_PURPOSE, id="TCF"),
        pytest.param({6: "1YYN"}, Reason.US_PRIVACY_OPT_OUT, id="US Privacy"),
        pytest.param({5: "x", 7: us_section(7)}, Reason.GPP_SECTION_UNKNOWN, id="Canada"),
        pytest.param({7: us_section(7), 30: "x"}, Reason.GPP_SECTION_UNKNOWN, id="not numbered"),
        pytest.param({3: "x", 4: "y", 7: us_section(7)}, Reason.NONE, id="header and integrity"),
        pytest.param({7: ""}, Reason.GPP_MISSING, id="an empty section"),
    ],
)
@pytest.mark.parametrize("gpp_sids", [[], [[]], [[], []]], ids=["absent", "empty", "both empty"])
def test_where_no_section_is_said_to_apply_each_that_is_there_must_permit(
    sections: dict[int, str], reason: Reason, gpp_sids: list[list[int]]
) -> None:
    gpp = gpp_string(sections)

    assert _refusal_of([gpp], gpp_sids) is reason
    assert _refusal_of(["", gpp], gpp_sids) is reason
    assert _refusal_of([gpp], gpp_sids, without_sid_refuses=False) is Reason.NONE


@pytest.mark.parametrize("id_", [0, -1, 3, 4])
def test_ids_that_are_no_laws_refuse_nothing(id_: int) -> None:
    """
    Where one of them is named, somebody has said what applies.
    """
    opted_out = gpp_string({7: us_section(7, SaleOptOut=1)})

    assert _refusal(opted_out, id_) is Reason.NONE
    assert _refusal("garbage", id_) is Reason.NONE
    assert _refusal_of([opted_out], [[], [id_]]) is Reason.NONE
    assert _refusal(gpp_string({7: us_section(7)}), id_, 7) is Reason.NONE
    assert _refusal(opted_out, id_, 7) is Reason.GPP_OPT_OUT


def test_consent_to_personal_data_may_be_configured_to_permit() -> None:
    consented = gpp_string({7: us_section(7, PersonalDataConsents=2)})

    assert _refusal(consented, 7) is Reason.GPP_PERSONAL_DATA
    assert _refusal(consented, 7, personal_data_2_permits=True) is Reason.NONE


def test_section_without_a_rule_refuses_whatever_else_applies() -> None:
    assert _refusal(gpp_string({7: us_section(7)}), 7, 28) is Reason.GPP_SECTION_UNKNOWN


def test_section_named_twice_is_read_once() -> None:
    assert _refusal(gpp_string({7: us_section(7)}), 7, 7) is Reason.NONE
