"""US sections of a GPP string: the rule on every section, field by field."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtb.consent.us import US_SECTION_IDS, refusal_of_us_section
from rtb.outcome import Reason
from tests.rtb.consent.strings import (
    GPC_SECTIONS,
    SENSITIVE_SECTIONS,
    US_SECTIONS,
    base64url,
    gpc,
    number,
    quiet_value,
    us_fields,
    us_section,
)

_EVERY_SECTION = [
    pytest.param(id_, version, id=f"section {id_} version {version}")
    for id_, version in US_SECTIONS
]
_CHILD = "KnownChildSensitiveDataConsents"


def _refusal(id_: int, text: str, *, personal_data_2_permits: bool = False) -> Reason:
    return refusal_of_us_section(id_, text, personal_data_2_permits=personal_data_2_permits)


def _with(id_: int, version: int, **fields: int) -> Reason:
    """Return the refusal of a section that permits but for these fields, named as in lists."""
    names = us_fields(id_, version)
    bits = number(version, 6)
    bits += "".join(number(fields.get(name, quiet_value(name)), 2) for name in names)
    return _refusal(id_, base64url(bits))


def _due(id_: int, field: str, value: int) -> Reason:
    """Return what one field, alone not quiet, brings about."""
    head = field.partition("[")[0]
    if head == "MspaCoveredTransaction":
        return Reason.NONE if value in {1, 2} else Reason.GPP_UNREADABLE
    if head != _CHILD and (head.startswith("MspaOptOut") or "Sensitive" in head):
        return Reason.NONE
    if value == 3:
        return Reason.GPP_UNREADABLE
    match head:
        case "MspaServiceProviderMode":
            return Reason.GPP_SERVICE_PROVIDER if value == 1 else Reason.NONE
        case "MspaMode":
            return Reason.GPP_SERVICE_PROVIDER if value == 2 else Reason.NONE
        case "SaleOptOut" | "SharingOptOut" | "TargetedAdvertisingOptOut":
            return Reason.GPP_OPT_OUT if value == 1 else Reason.NONE
        case "SharingNotice" if id_ == 7 and value == 0:
            return Reason.GPP_NO_NOTICE  # of the sharing that was not opted out of
        case "SharingNotice" | "ProcessingNotice":
            return Reason.GPP_NO_NOTICE if value == 2 else Reason.NONE
        case "SaleOptOutNotice" | "SharingOptOutNotice" | "TargetedAdvertisingOptOutNotice":
            # 0 while the opt-out, quiet, is 2: a no that nobody was asked for.
            return Reason.NONE if value == 1 else Reason.GPP_NO_NOTICE
        case "PersonalDataConsents" | "AdditionalDataProcessingConsent":
            return Reason.GPP_PERSONAL_DATA if value else Reason.NONE
        case "KnownChildSensitiveDataConsents":
            may_consent = id_ == 7 and field in {f"{_CHILD}[1]", f"{_CHILD}[3]"}
            refused = {1} if may_consent else {1, 2}
            return Reason.GPP_CHILD if value in refused else Reason.NONE
    raise AssertionError(field)


def test_every_us_section_has_a_rule() -> None:
    assert set(range(7, 28)) == US_SECTION_IDS


@pytest.mark.parametrize(("id_", "version"), _EVERY_SECTION)
def test_person_who_was_told_and_did_not_opt_out_permits(id_: int, version: int) -> None:
    assert _with(id_, version) is Reason.NONE


@pytest.mark.parametrize(("id_", "version"), _EVERY_SECTION)
def test_each_field_alone_decides_as_the_rule_says(id_: int, version: int) -> None:
    for field in us_fields(id_, version):
        for value in range(4):
            assert _with(id_, version, **{field: value}) is _due(id_, field, value), (field, value)


@pytest.mark.parametrize(("id_", "version"), _EVERY_SECTION)
def test_opt_out_and_notice_that_are_both_not_applicable_permit(id_: int, version: int) -> None:
    names = [
        name
        for name in us_fields(id_, version)
        if name.endswith(("OptOut", "OptOutNotice")) or name == "SharingNotice"
    ]

    assert _with(id_, version, **dict.fromkeys(names, 0)) is Reason.NONE


@pytest.mark.parametrize(("id_", "version"), _EVERY_SECTION)
def test_gpc_refuses_where_a_section_has_it(id_: int, version: int) -> None:
    on, off = (us_section(id_, version, gpc(is_set)) for is_set in (True, False))

    if id_ in GPC_SECTIONS:
        assert _refusal(id_, on) is Reason.GPP_GPC
        assert _refusal(id_, off) is Reason.NONE
    elif id_ not in SENSITIVE_SECTIONS:
        assert _refusal(id_, on) is Reason.GPP_UNREADABLE
        assert _refusal(id_, off) is Reason.GPP_UNREADABLE


@pytest.mark.parametrize("id_", sorted(SENSITIVE_SECTIONS))
def test_subsection_of_sensitive_data_has_no_say(id_: int) -> None:
    """
    Its first two bits are one of sensitive data, not a type; `Y` there is no GPC.
    """
    for bits in ("00" * 8, "01" * 8, "10" * 8, "011" + "0" * 13):
        assert _refusal(id_, us_section(id_, 1, base64url(bits))) is Reason.NONE


@pytest.mark.parametrize("filling", ["", "A", "AA", "AAAA"])
def test_filling_of_zeros_makes_no_difference(filling: str) -> None:
    """
    Encoders fill up to six, eight or twenty-four bits.
    """
    section = us_section(7, 2)

    assert _refusal(7, section + filling) is Reason.NONE
    assert _refusal(7, f"{section}{filling}.Y{filling[:3]}") is Reason.GPP_GPC


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(".", id="a dot"),
        pytest.param(us_section(7)[:-1], id="too short"),
        pytest.param(us_section(7) + "AAAAA", id="too long"),
        pytest.param(us_section(7) + "B", id="more than zeros behind the fields"),
        pytest.param("B" + us_section(7, 2)[1:] + "A", id="version 1 of 13 characters"),
        pytest.param(us_section(7) + "AAA", id="version 1 filled up to 13 characters"),
        pytest.param("C" + us_section(7, 1)[1:], id="version 1 that calls itself 2"),
        pytest.param("D" + us_section(7, 2)[1:], id="version 3"),
        pytest.param("A" + us_section(7)[1:], id="version 0"),
        pytest.param("!" + us_section(7)[1:], id="no version"),
        pytest.param(us_section(7)[:-1] + "!", id="not base64"),
        pytest.param(us_section(7)[:-1] + "é", id="not ASCII"),
        pytest.param(us_section(7) + ".", id="an empty subsection"),
        pytest.param(us_section(7) + ".A", id="a subsection that is a core"),
        pytest.param(us_section(7) + ".g", id="a subsection of another type"),
        pytest.param(us_section(7) + ".R", id="a bit behind the GPC"),
        pytest.param(us_section(7) + ".QAAAA", id="a long GPC"),
        pytest.param(us_section(7) + ".Q.Q", id="two subsections"),
        pytest.param(us_section(7) + ".Y.Q", id="GPC, and something else"),
    ],
)
def test_what_can_not_be_read_refuses(text: str) -> None:
    assert _refusal(7, text) is Reason.GPP_UNREADABLE


_CALLED_1 = "B" + us_section(7, 2, SensitiveDataProcessing_16=2)[1:]
"""Of version 2's layout, and permits by version 1's as well."""


def test_version_1_as_long_as_version_2_is_read_by_both_layouts() -> None:
    """
    Encoders of 2024 and 2025 wrote such strings: IABTechLab/iabgpp-es, issues 75 and 90.
    """
    assert len(_CALLED_1) == 12
    assert _refusal(7, _CALLED_1) is Reason.NONE
    assert _refusal(7, _CALLED_1 + ".Q") is Reason.NONE
    assert _refusal(7, _CALLED_1 + ".Y") is Reason.GPP_GPC


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(
            "B" + us_section(7, 2, KnownChildSensitiveDataConsents_3=1)[1:],
            Reason.GPP_CHILD,
            id="by version 2 a child",
        ),
        pytest.param(
            "B" + us_section(7, 2, SensitiveDataProcessing_13=1, SensitiveDataProcessing_16=2)[1:],
            Reason.GPP_CHILD,
            id="by version 1 a child",
        ),
        pytest.param(
            "B" + us_section(7, 2)[1:],
            Reason.GPP_UNREADABLE,
            id="by version 1 no covered transaction",
        ),
        pytest.param(
            us_section(7) + "AA", Reason.GPP_UNREADABLE, id="by version 2 no covered transaction"
        ),
        pytest.param(
            "B" + us_section(7, 2, SensitiveDataProcessing_16=2, SaleOptOut=1)[1:],
            Reason.GPP_OPT_OUT,
            id="by both an opt-out",
        ),
    ],
)
def test_either_layout_refuses(text: str, reason: Reason) -> None:
    assert len(text) == 12
    assert _refusal(7, text) is reason


@pytest.mark.parametrize("filling", ["", "A"])
def test_version_1_of_ten_or_eleven_characters_is_version_1(filling: str) -> None:
    assert len(us_section(7)) == 10
    assert _refusal(7, us_section(7) + filling) is Reason.NONE


@pytest.mark.parametrize(("id_", "version"), _EVERY_SECTION)
def test_2_of_personal_data_may_be_configured_to_permit_in_the_national_section(
    id_: int, version: int
) -> None:
    for field in us_fields(id_, version):
        if field not in {"PersonalDataConsents", "AdditionalDataProcessingConsent"}:
            continue
        for value in (1, 2):
            text = us_section(id_, version, None, **{field: value})
            permits = id_ == 7 and value == 2

            assert _refusal(id_, text) is Reason.GPP_PERSONAL_DATA
            assert _refusal(id_, text, personal_data_2_permits=True) is (
                Reason.NONE if permits else Reason.GPP_PERSONAL_DATA
            )


@pytest.mark.parametrize("subsection", ["", "!!!", "A" * 9, "AAA.AAA"])
def test_sensitive_data_that_can_not_be_read_refuses(subsection: str) -> None:
    assert _refusal(25, us_section(25, 1, subsection)) is Reason.GPP_UNREADABLE


@pytest.mark.parametrize("id_", [24, 25, 26, 27])
def test_section_header_of_the_documents_refuses(id_: int) -> None:
    """
    No encoder writes it; were one to, the bits behind it would not be where we read them.
    """
    header = base64url(number(id_, 6) + number(1, 6) + number(1, 12) + "0011")

    assert _refusal(id_, f"{header}.{us_section(id_)}") is Reason.GPP_UNREADABLE


@settings(deadline=None)
@given(st.sampled_from(US_SECTIONS), st.data())
def test_no_makes_no_yes(section: tuple[int, int], data: st.DataObject) -> None:
    """
    Of a section that refuses, no other field said in addition makes one that permits.
    """
    id_, version = section
    names = us_fields(id_, version)
    fields = data.draw(st.dictionaries(st.sampled_from(names), st.integers(0, 3), max_size=6))
    refusing = data.draw(
        st.sampled_from([n for n in names if n in {"SaleOptOut", "TargetedAdvertisingOptOut"}])
    )

    assert _with(id_, version, **fields | {refusing: 1}) is not Reason.NONE
