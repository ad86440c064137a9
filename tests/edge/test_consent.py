"""
The table of consent rules, row by row, through a real socket and a real store.

Each row is a request of a person who is in two audiences; what stands in the
request beside that decides. A refused one leaves byte for byte as it came.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.edge.client import connected
from tests.edge.small_store import SHOP_DATA, added_data, bid_request, serving
from tests.engines import Engine
from tests.rtb.consent.strings import (
    GPC_SECTIONS,
    TCF_23_SINCE_DS,
    US_SECTIONS,
    disclosed,
    gpc,
    gpp_string,
    tc_string,
    us_section,
    vendors,
)

CONSENTS = tc_string()
NO_VENDOR = tc_string(consents=vendors([1, 147, 149]))
RESTRICTED = tc_string(restrictions=[(3, 0, [(148, 148)])])


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Row(NamedTuple):
    """What a request says, and the reason that it is refused for; none, and it is enriched."""

    reason: str
    regs: Mapping[str, Any] = _NOTHING
    ext: Mapping[str, Any] = _NOTHING
    consent: str | None = None
    consent_25: str | None = None
    device: Mapping[str, Any] = _NOTHING

    def body(self) -> bytes:
        """Return the request."""
        body = bid_request(regs={**self.regs, "ext": dict(self.ext)}, device=dict(self.device))
        user: dict[str, Any] = {}
        if self.consent is not None:
            user["consent"] = self.consent
        if self.consent_25 is not None:
            user["ext"] = {"consent": self.consent_25}
        return body.replace(
            b'"user": {', b'"user": {' + json.dumps(user)[1:-1].encode() + b"," * bool(user)
        )


def _gpp(text: str, *ids: int) -> dict[str, Any]:
    return {"gpp": text, "gpp_sid": list(ids)}


def _us(id_: int, version: int = 1, subsection: str | None = None, **fields: int) -> dict[str, Any]:
    return _gpp(gpp_string({id_: us_section(id_, version, subsection, **fields)}), id_)


RULES = {
    "nothing said": Row(""),
    "coppa 1": Row("coppa", {"coppa": 1}),
    "coppa 0": Row("", {"coppa": 0}),
    "lmt 1": Row("lmt", device={"lmt": 1}),
    "lmt 0": Row("", device={"lmt": 0}),
    "atts 0": Row("lmt", device={"ext": {"atts": 0}}),
    "atts 2, lmt 0": Row("lmt", device={"lmt": 0, "ext": {"atts": 2}}),
    "atts 3": Row("", device={"ext": {"atts": 3}}),
    "atts 4": Row("signal_unreadable", device={"ext": {"atts": 4}}),
    "coppa 1 in ext": Row("coppa", {"coppa": 0}, {"coppa": 1}),
    "dnt 1": Row("", device={"dnt": 1}),
    "gpc 1": Row("gpc", ext={"gpc": "1"}),
    "gpc 0": Row("", ext={"gpc": "0"}),
    "us_privacy opt-out": Row("us_privacy_opt_out", {"us_privacy": "1YYN"}),
    "us_privacy opt-out, 2.5": Row("us_privacy_opt_out", ext={"us_privacy": "1YYN"}),
    "us_privacy malformed": Row("us_privacy_unreadable", {"us_privacy": "yes"}),
    "us_privacy does not apply": Row("", {"us_privacy": "1---"}),
    "us_privacy not opted out": Row("", {"us_privacy": "1YNN"}),
    "gdpr 1, consent": Row("", {"gdpr": 1}, consent=CONSENTS),
    "gdpr 1, consent, all in 2.5": Row("", ext={"gdpr": 1}, consent_25=CONSENTS),
    "gdpr 1, none": Row("tcf_missing", {"gdpr": 1}),
    "gdpr 1 in 2.5, none": Row("tcf_missing", {"gdpr": 0}, {"gdpr": 1}),
    "gdpr 1, unreadable": Row("tcf_unreadable", {"gdpr": 1}, consent="CPX"),
    "gdpr 1, purpose 1 withheld": Row("tcf_no_purpose", {"gdpr": 1}, consent=tc_string([3, 4])),
    "gdpr 1, purpose 3 withheld": Row("tcf_no_purpose", {"gdpr": 1}, consent=tc_string([1, 4])),
    "gdpr 1, purpose 4 withheld": Row("tcf_no_purpose", {"gdpr": 1}, consent=tc_string([1, 3])),
    "gdpr 1, vendor withheld": Row("tcf_no_vendor", {"gdpr": 1}, consent=NO_VENDOR),
    "gdpr 1, publisher forbids": Row("tcf_restricted", {"gdpr": 1}, consent=RESTRICTED),
    "gdpr 1, withheld in 2.5": Row(
        "tcf_no_vendor", {"gdpr": 1}, consent=CONSENTS, consent_25=NO_VENDOR
    ),
    "gdpr 1, disclosed": Row("", {"gdpr": 1}, consent=f"{CONSENTS}.{disclosed([148])}"),
    "gdpr 1, not disclosed": Row(
        "tcf_not_disclosed", {"gdpr": 1}, consent=f"{CONSENTS}.{disclosed([147])}"
    ),
    "gdpr 1, nothing disclosed since TCF 2.3": Row(
        "tcf_not_disclosed", {"gdpr": 1}, consent=tc_string(created_ds=TCF_23_SINCE_DS)
    ),
    "gdpr 1, a restriction of 120 others": Row(
        "",
        {"gdpr": 1},
        consent=tc_string(restrictions=[(7, 0, [(i, i) for i in range(200, 440, 2)])]),
    ),
    "gdpr 0, unreadable": Row("", {"gdpr": 0}, consent="CPX"),
    "gdpr unsaid, consent": Row("", consent=CONSENTS),
    "gdpr unsaid, withheld": Row("tcf_no_vendor", consent=NO_VENDOR),
    "gdpr unsaid, unreadable": Row("tcf_unreadable", consent_25="CPX"),
    "gpp_sid empty, garbage": Row("gpp_unreadable", _gpp("garbage")),
    "gpp_sid absent, garbage": Row("gpp_unreadable", {"gpp": "garbage"}),
    "gpp_sid 0, garbage": Row("", _gpp("garbage", 0)),
    "gpp_sid -1, garbage": Row("", _gpp("garbage", -1)),
    "gpp_sid absent, permits": Row("", {"gpp": gpp_string({7: us_section(7), 6: "1YNN"})}),
    "gpp_sid absent, opt-out": Row(
        "gpp_opt_out", {"gpp": gpp_string({7: us_section(7, SaleOptOut=1)})}
    ),
    "gpp_sid absent, Canada": Row("gpp_section_unknown", {"gpp": gpp_string({5: "x"})}),
    "gpp_sid 3 and 7": Row("", _gpp(gpp_string({7: us_section(7)}), 3, 7)),
    "gpp_sid 2, consent": Row("", _gpp(gpp_string({2: CONSENTS}), 2)),
    "gpp_sid 2, withheld": Row("tcf_no_vendor", _gpp(gpp_string({2: NO_VENDOR}), 2)),
    "gpp_sid 2, unreadable": Row("tcf_unreadable", _gpp(gpp_string({2: "CPX"}), 2)),
    "gpp_sid 2, no section": Row("gpp_missing", _gpp(gpp_string({6: "1YNN"}), 2)),
    "gpp_sid 2, no gpp": Row("gpp_missing", {"gpp_sid": [2]}),
    "gpp_sid 6, not opted out": Row("", _gpp(gpp_string({6: "1YNN"}), 6)),
    "gpp_sid 6, opt-out": Row("us_privacy_opt_out", _gpp(gpp_string({6: "1YYN"}), 6)),
    "gpp_sid 6, malformed": Row("us_privacy_unreadable", _gpp(gpp_string({6: "1Y"}), 6)),
    "gpp_sid 5, Canada": Row("gpp_section_unknown", _gpp("DBABjw~x~1YNN", 5)),
    "gpp_sid 28, unknown": Row("gpp_section_unknown", {"gpp_sid": [28]}),
    "gpp garbage": Row("gpp_unreadable", _gpp("garbage", 7)),
    "gpp in 2.5": Row("gpp_opt_out", ext=_us(7, SaleOptOut=1)),
    "gpp_sid in 2.5 only": Row(
        "gpp_opt_out",
        {"gpp": gpp_string({7: us_section(7, SaleOptOut=1)})},
        {"gpp_sid": [7]},
    ),
    "two, one refuses": Row(
        "gpp_opt_out", _gpp(gpp_string({7: us_section(7), 8: us_section(8, SaleOptOut=1)}), 7, 8)
    ),
    "two, the other applies": Row(
        "", _gpp(gpp_string({7: us_section(7), 8: us_section(8, SaleOptOut=1)}), 7)
    ),
}

NATIONAL = {
    "MspaServiceProviderMode 1": Row("gpp_service_provider", _us(7, MspaServiceProviderMode=1)),
    "Gpc 1": Row("gpp_gpc", _us(7, 1, gpc(True))),
    "Gpc 0": Row("", _us(7, 1, gpc(False))),
    "SaleOptOut 1": Row("gpp_opt_out", _us(7, SaleOptOut=1)),
    "SharingOptOut 1": Row("gpp_opt_out", _us(7, SharingOptOut=1)),
    "TargetedAdvertisingOptOut 1": Row("gpp_opt_out", _us(7, TargetedAdvertisingOptOut=1)),
    "SaleOptOutNotice 2": Row("gpp_no_notice", _us(7, SaleOptOutNotice=2)),
    "SharingOptOutNotice 2": Row("gpp_no_notice", _us(7, SharingOptOutNotice=2)),
    "SharingNotice 2": Row("gpp_no_notice", _us(7, SharingNotice=2)),
    "TargetedAdvertisingOptOutNotice 2": Row(
        "gpp_no_notice", _us(7, TargetedAdvertisingOptOutNotice=2)
    ),
    "SharingNotice 0, SharingOptOut 2": Row("gpp_no_notice", _us(7, SharingNotice=0)),
    "MspaCoveredTransaction 0": Row("gpp_unreadable", _us(7, MspaCoveredTransaction=0)),
    "SaleOptOutNotice 0, SaleOptOut 2": Row("gpp_no_notice", _us(7, SaleOptOutNotice=0)),
    "SharingOptOutNotice 0, SharingOptOut 2": Row("gpp_no_notice", _us(7, SharingOptOutNotice=0)),
    "TargetedAdvertisingOptOutNotice 0, TargetedAdvertisingOptOut 2": Row(
        "gpp_no_notice", _us(7, TargetedAdvertisingOptOutNotice=0)
    ),
    "SaleOptOutNotice 0, SaleOptOut 0": Row("", _us(7, SaleOptOutNotice=0, SaleOptOut=0)),
    "a child of 13 to 16 without consent": Row(
        "gpp_child", _us(7, KnownChildSensitiveDataConsents_1=1)
    ),
    "a child of 13 to 16 with consent": Row("", _us(7, KnownChildSensitiveDataConsents_1=2)),
    "a younger child": Row("gpp_child", _us(7, KnownChildSensitiveDataConsents_2=1)),
    "a younger child with consent": Row("gpp_child", _us(7, KnownChildSensitiveDataConsents_2=2)),
    "16 or 17 without consent": Row("gpp_child", _us(7, 2, KnownChildSensitiveDataConsents_3=1)),
    "16 or 17 with consent": Row("", _us(7, 2, KnownChildSensitiveDataConsents_3=2)),
    "PersonalDataConsents 2": Row("gpp_personal_data", _us(7, PersonalDataConsents=2)),
    "PersonalDataConsents 1": Row("gpp_personal_data", _us(7, PersonalDataConsents=1)),
    "a value that no field has": Row("gpp_unreadable", _us(7, SaleOptOut=3)),
}

SECTIONS = {
    f"section {id_} version {version}, {what}": row
    for id_, version in US_SECTIONS
    for what, row in {
        "permits": Row("", _us(id_, version)),
        "sale": Row("gpp_opt_out", _us(id_, version, SaleOptOut=1)),
        "no notice": Row("gpp_no_notice", _us(id_, version, SaleOptOutNotice=2)),
        "contradiction": Row("gpp_no_notice", _us(id_, version, SaleOptOutNotice=0)),
        "service provider": Row(
            "gpp_service_provider",
            _us(id_, version, MspaMode=2)
            if id_ >= 24
            else _us(id_, version, MspaServiceProviderMode=1),
        ),
        "missing": Row("gpp_missing", _gpp(gpp_string({6: "1YNN"}), id_)),
        "unreadable": Row("gpp_unreadable", _gpp(gpp_string({id_: "zz"}), id_)),
        "gpc": Row(
            "gpp_gpc" if id_ in GPC_SECTIONS else "gpp_unreadable",
            _us(id_, version, gpc(True) if id_ < 25 else "!"),
        ),
    }.items()
}


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(RULES, id="rules"),
        pytest.param(NATIONAL, id="national section"),
        pytest.param(SECTIONS, id="every section"),
    ],
)
async def test_each_row_of_the_rules(valkey: Engine, table: dict[str, Row]) -> None:
    due = {
        name: ("no_consent", row.reason) if row.reason else ("enriched", "")
        for name, row in table.items()
    }
    ended: dict[str, tuple[str, str]] = {}

    async with serving(valkey.url) as service, connected(service.port) as client:
        for name, row in table.items():
            body = row.body()
            before = service.count(*due[name])
            answer = await client.post(body)
            is_counted = service.count(*due[name]) == before + 1
            ended[name] = (answer.outcome, due[name][1] if is_counted else "?")
            if answer.outcome == "enriched":
                assert added_data(answer.body) == [SHOP_DATA]
            else:
                assert answer.body == body

    assert ended == due


async def test_reason_is_told_to_who_asks_where_that_is_configured(valkey: Engine) -> None:
    refused = Row("tcf_no_vendor", {"gdpr": 1}, consent=NO_VENDOR).body()

    async with (
        serving(valkey.url, debug_header=True) as service,
        connected(service.port) as client,
    ):
        told = await client.post(refused, X_Enrich_Debug="1")
        enriched = await client.post(bid_request(), x_enrich_debug="1")
        malformed = await client.post(b"{", X_Enrich_Debug="1")
        lost = await client.post(b"{", "/nowhere", X_Enrich_Debug="1")
        other = await client.post(refused, X_Enrich_Debug="0")
        unasked = await client.post(refused)

    assert (told.status, told.outcome, told.body) == (200, "no_consent", refused)
    assert told.headers["x-enrich-reason"] == "tcf_no_vendor"
    assert malformed.headers["x-enrich-reason"] == "not_json"
    for answer in (enriched, lost, other, unasked):
        assert "x-enrich-reason" not in answer.headers


async def test_reason_is_told_to_nobody_by_default(valkey: Engine) -> None:
    refused = Row("tcf_no_vendor", {"gdpr": 1}, consent=NO_VENDOR).body()

    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(refused, X_Enrich_Debug="1")

    assert answer.outcome == "no_consent"
    assert "x-enrich-reason" not in answer.headers


async def test_reason_is_told_in_every_form_of_answer(valkey: Engine) -> None:
    refused = Row("tcf_no_vendor", {"gdpr": 1}, consent=NO_VENDOR).body()

    async with (
        serving(valkey.url, debug_header=True) as service,
        connected(service.port) as client,
    ):
        for path in ("/openrtb2/enrich/dsp-a", "/openrtb2/patch/dsp-a", "/openrtb25/dsp-a"):
            answer = await client.post(refused, path, X_Enrich_Debug="1")

            assert answer.headers["x-enrich-reason"] == "tcf_no_vendor"


async def test_vendor_and_purposes_are_those_of_the_settings(valkey: Engine) -> None:
    settings = {"tcf_vendor_id": 755, "tcf_purposes": "2,9"}
    ours = Row("", {"gdpr": 1}, consent=tc_string([2, 9], vendors([755])))
    defaults = Row("", {"gdpr": 1}, consent=tc_string([1, 3, 4], vendors([148])))
    no_vendor = Row("", {"gdpr": 1}, consent=tc_string([2, 9], vendors([148, 756])))

    async with serving(valkey.url, **settings) as service, connected(service.port) as client:
        outcomes = [(await client.post(row.body())).outcome for row in (ours, defaults, no_vendor)]
        assert service.count("no_consent", "tcf_no_purpose") == 1
        assert service.count("no_consent", "tcf_no_vendor") == 1

    assert outcomes == ["enriched", "no_consent", "no_consent"]


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        pytest.param({"lmt_refuses": False}, Row("", device={"lmt": 1}), id="lmt permits"),
        pytest.param(
            {"lmt_refuses": False}, Row("", device={"ext": {"atts": 2}}), id="atts permits"
        ),
        pytest.param(
            {"gpp_without_sid": "none"}, Row("", {"gpp": "garbage"}), id="gpp without gpp_sid"
        ),
        pytest.param(
            {"gpp_personal_data_2_permits": True},
            Row("", _us(7, PersonalDataConsents=2)),
            id="personal data 2 permits",
        ),
        pytest.param(
            {"gpp_personal_data_2_permits": True},
            Row("gpp_personal_data", _us(7, PersonalDataConsents=1)),
            id="but not 1",
        ),
        pytest.param(
            {"tcf_disclosed_vendors": "always"},
            Row("tcf_not_disclosed", {"gdpr": 1}, consent=CONSENTS),
            id="disclosed vendors always",
        ),
        pytest.param(
            {"tcf_disclosed_vendors": "present"},
            Row("", {"gdpr": 1}, consent=tc_string(created_ds=TCF_23_SINCE_DS)),
            id="disclosed vendors if present",
        ),
        pytest.param(
            {"tcf_disclosed_vendors": "2023-01-01"},
            Row("tcf_not_disclosed", {"gdpr": 1}, consent=CONSENTS),
            id="disclosed vendors from a day on",
        ),
        pytest.param({"dnt_refuses": True}, Row("dnt", device={"dnt": 1}), id="dnt refuses"),
        pytest.param({"gdpr_when_unsaid": True}, Row("tcf_missing"), id="gdpr applies unsaid"),
        pytest.param(
            {"us_privacy_malformed_refuses": False},
            Row("", {"us_privacy": "yes"}),
            id="us_privacy malformed is not said",
        ),
        pytest.param(
            {"us_privacy_malformed_refuses": False},
            Row("us_privacy_unreadable", _gpp(gpp_string({6: "yes"}), 6)),
            id="but not where gpp_sid says that it applies",
        ),
    ],
)
async def test_configured_rule_decides(valkey: Engine, settings: dict[str, Any], row: Row) -> None:
    async with serving(valkey.url, **settings) as service, connected(service.port) as client:
        answer = await client.post(row.body())

        assert answer.outcome == ("no_consent" if row.reason else "enriched")
        assert service.count(answer.outcome, row.reason) == 1
