import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from rtb.consent.decision import Policy, refusal, refusal_in_detail
from rtb.openrtb.decode import Decoder
from rtb.outcome import Reason
from tests.rtb.consent import signals
from tests.rtb.consent.strings import gpp_string, tc_string, us_section
from tests.rtb.requests import POLICY

_decode = Decoder()

_CONSENTS = tc_string()
_REFUSES = tc_string(purposes=[1, 2])
_USNAT = gpp_string({7: us_section(7)})
_USNAT_OPT_OUT = gpp_string({7: us_section(7, SaleOptOut=1)})


def _refusal(policy: Policy = POLICY, **fields: Any) -> Reason:
    return refusal(_decode(json.dumps({"id": "1", **fields}).encode()), policy)


def _regs(**regs: Any) -> dict[str, Any]:
    return {"regs": regs}


def _regs_ext(**ext: Any) -> dict[str, Any]:
    return {"regs": {"ext": ext}}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="nothing said"),
        pytest.param({"regs": None, "user": None, "device": None}, id="null is not said"),
        pytest.param({"regs": {"ext": None}, "user": {"ext": None}}, id="ext null"),
        pytest.param(_regs(coppa=0, gdpr=0), id="zero is no"),
        pytest.param(_regs(coppa=0.0), id="zero spelled as a fraction"),
        pytest.param(_regs_ext(gpc="0"), id="gpc 0"),
        pytest.param(_regs_ext(gpc=""), id="gpc empty"),
        pytest.param(_regs(us_privacy="1---"), id="us_privacy does not apply"),
        pytest.param(_regs_ext(us_privacy="1YNN"), id="us_privacy not opted out"),
        pytest.param(_regs(us_privacy=""), id="us_privacy empty is not said"),
        pytest.param(_regs(gpp_sid=[]), id="no section"),
        pytest.param(_regs(gpp_sid=[-1]), id="section -1 is none"),
        pytest.param(_regs(gpp_sid=[0]), id="section 0 is none"),
        pytest.param(_regs(gpp="garbage", gpp_sid=[-1]), id="a gpp string that applies to nothing"),
        pytest.param(_regs(gpp=_USNAT), id="gpp without gpp_sid"),
        pytest.param(_regs(gpp=""), id="gpp empty"),
        pytest.param(_regs(gpp=_USNAT, gpp_sid=[3, 7]), id="sections that are no laws"),
        pytest.param({"device": {"ext": {"atts": 3}}}, id="tracking is allowed"),
        pytest.param({"device": {"lmt": 0, "ext": {"atts": None}}}, id="atts null"),
        pytest.param(
            {"regs": [], "user": [], "device": []}, id="PHP's empty objects are empty objects"
        ),
        pytest.param(
            {"regs": {"ext": []}, "user": {"ext": []}, "device": {"ext": []}}, id="PHP's empty ext"
        ),
        pytest.param(_regs_ext(coppa=0), id="coppa 0 in ext"),
        pytest.param({"device": {"lmt": 0, "dnt": 1}}, id="dnt is ignored"),
        pytest.param({"device": {"dnt": "yes"}}, id="an odd dnt is ignored too"),
        pytest.param({"user": {"consent": "", "ext": {"consent": ""}}}, id="empty TC string"),
        pytest.param({**_regs(gdpr=0), "user": {"consent": "CPX"}}, id="gdpr no, TC string"),
        pytest.param({**_regs_ext(gdpr=0), "user": {"consent": "x"}}, id="2.5 gdpr no, TC string"),
        pytest.param({**_regs(gdpr=1), "user": {"consent": _CONSENTS}}, id="gdpr, consent"),
        pytest.param({"user": {"ext": {"consent": _CONSENTS}}}, id="gdpr unsaid, consent in 2.5"),
        pytest.param(_regs(gpp=_USNAT, gpp_sid=[7]), id="usnat"),
        pytest.param(_regs(gpp=_USNAT, gpp_sid=[7.0]), id="a section as a fraction"),
        pytest.param(
            {"regs": {"gpp": _USNAT, "ext": {"gpp_sid": [7]}}}, id="gpp in 2.6, gpp_sid in 2.5"
        ),
        pytest.param(
            {"regs": {"gpp_sid": [7], "ext": {"gpp": _USNAT}}}, id="gpp in 2.5, gpp_sid in 2.6"
        ),
    ],
)
def test_what_says_nothing_against_it_permits(fields: dict[str, Any]) -> None:
    assert _refusal(**fields) is Reason.NONE


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param(_regs(coppa=1), Reason.COPPA, id="coppa"),
        pytest.param(_regs_ext(coppa=1), Reason.COPPA, id="coppa in ext"),
        pytest.param(
            {"regs": {"coppa": 0, "ext": {"coppa": 1}}}, Reason.COPPA, id="coppa, the stricter"
        ),
        pytest.param({"device": {"lmt": 1}}, Reason.LMT, id="lmt"),
        pytest.param({"device": {"ext": {"atts": 0}}}, Reason.LMT, id="atts not determined"),
        pytest.param({"device": {"ext": {"atts": 1}}}, Reason.LMT, id="atts restricted"),
        pytest.param({"device": {"lmt": 0, "ext": {"atts": 2}}}, Reason.LMT, id="atts denied"),
        pytest.param({"device": {"lmt": 1, "ext": {"atts": 3}}}, Reason.LMT, id="lmt, atts 3"),
        pytest.param(_regs_ext(gpc="1"), Reason.GPC, id="gpc"),
        pytest.param(_regs_ext(gpc=1), Reason.GPC, id="gpc as a number"),
        pytest.param(_regs(us_privacy="1YYN"), Reason.US_PRIVACY_OPT_OUT, id="us_privacy"),
        pytest.param(_regs_ext(us_privacy="1nyn"), Reason.US_PRIVACY_OPT_OUT, id="us_privacy 2.5"),
        pytest.param(_regs(us_privacy="2YNN"), Reason.US_PRIVACY_UNREADABLE, id="version 2"),
        pytest.param(_regs(us_privacy="1YNN "), Reason.US_PRIVACY_UNREADABLE, id="too long"),
        pytest.param(_regs(gdpr=1), Reason.TCF_MISSING, id="gdpr without a TC string"),
        pytest.param(_regs_ext(gdpr=1), Reason.TCF_MISSING, id="gdpr 2.5"),
        pytest.param({"user": {"consent": "CPX"}}, Reason.TCF_UNREADABLE, id="TC string"),
        pytest.param(
            {"user": {"ext": {"consent": "CPX"}}}, Reason.TCF_UNREADABLE, id="TC string 2.5"
        ),
        pytest.param({"user": {"consent": _REFUSES}}, Reason.TCF_NO_PURPOSE, id="no purpose"),
        pytest.param(_regs(gpp_sid=[2]), Reason.GPP_MISSING, id="gpp tcf without gpp"),
        pytest.param(_regs(gpp_sid=[7], gpp=""), Reason.GPP_MISSING, id="gpp empty"),
        pytest.param(_regs(gpp_sid=[7], gpp="x"), Reason.GPP_UNREADABLE, id="gpp garbage"),
        pytest.param(_regs(gpp="garbage"), Reason.GPP_UNREADABLE, id="garbage without gpp_sid"),
        pytest.param(_regs_ext(gpp=_USNAT_OPT_OUT), Reason.GPP_OPT_OUT, id="gpp without gpp_sid"),
        pytest.param(_regs(gpp=_USNAT_OPT_OUT, gpp_sid=[]), Reason.GPP_OPT_OUT, id="gpp_sid empty"),
        pytest.param(_regs(gpp_sid=[8], gpp=_USNAT), Reason.GPP_MISSING, id="another section"),
        pytest.param(
            _regs(gpp_sid=[7], gpp=_USNAT_OPT_OUT), Reason.GPP_OPT_OUT, id="usnat opt-out"
        ),
        pytest.param(
            _regs_ext(gpp_sid=[5, 7], gpp=_USNAT), Reason.GPP_SECTION_UNKNOWN, id="Canada"
        ),
        pytest.param(_regs(gpp_sid=[28]), Reason.GPP_SECTION_UNKNOWN, id="yet to be numbered"),
        pytest.param(_regs(gpp_sid=[1]), Reason.GPP_SECTION_UNKNOWN, id="TCF 1"),
        pytest.param(_regs(gpp_sid=[7.5]), Reason.GPP_SECTION_UNKNOWN, id="a broken number"),
        pytest.param(_regs(gpp_sid=[-2]), Reason.GPP_SECTION_UNKNOWN, id="below none"),
    ],
)
def test_each_signal_refuses(fields: dict[str, Any], reason: Reason) -> None:
    assert _refusal(**fields) is reason


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"regs": [{}]}, id="regs is an array"),
        pytest.param({"regs": {"ext": [1]}}, id="regs.ext is an array"),
        pytest.param({"device": {"ext": "x"}}, id="device.ext is text"),
        pytest.param({"device": {"ext": {"atts": "3"}}}, id="atts is text"),
        pytest.param({"device": {"ext": {"atts": True}}}, id="atts is true"),
        pytest.param({"device": {"ext": {"atts": 4}}}, id="atts beyond the last"),
        pytest.param({"device": {"ext": {"atts": 2.5}}}, id="atts is a fraction"),
        pytest.param({"device": {"lmt": 1, "ext": {"atts": -1}}}, id="atts below the first"),
        pytest.param(_regs_ext(coppa="1"), id="coppa in ext is text"),
        pytest.param({"device": "phone"}, id="device is text"),
        pytest.param({"user": [1]}, id="user is an array"),
        pytest.param({"user": {"ext": 1}}, id="user.ext is a number"),
        pytest.param(_regs(coppa="1"), id="coppa is text"),
        pytest.param(_regs(coppa=False), id="coppa is false"),
        pytest.param({"device": {"lmt": True}}, id="lmt is true"),
        pytest.param(_regs_ext(gpc="yes"), id="gpc is another word"),
        pytest.param(_regs_ext(gpc=[]), id="gpc is an array"),
        pytest.param(_regs(us_privacy=1), id="us_privacy is a number"),
        pytest.param(_regs(gdpr="0"), id="gdpr is text"),
        pytest.param(_regs_ext(gdpr={}), id="2.5 gdpr is an object"),
        pytest.param({**_regs(gdpr=0), "user": {"consent": 5}}, id="TC string is a number"),
        pytest.param({"user": {"ext": {"consent": []}}}, id="2.5 TC string is an array"),
        pytest.param(_regs(gpp=5), id="gpp is a number"),
        pytest.param(_regs(gpp_sid=7), id="gpp_sid is a number"),
        pytest.param(_regs(gpp_sid=["7"]), id="a section is text"),
        pytest.param(_regs_ext(gpp_sid=[True]), id="a section is true"),
        pytest.param(_regs_ext(gpp_sid=[-1] * 33), id="more sections than there can be"),
        pytest.param(_regs_ext(gpp=[]), id="2.5 gpp is an array"),
    ],
)
def test_signal_of_a_type_that_it_can_not_have_refuses(fields: dict[str, Any]) -> None:
    assert _refusal(**fields) is Reason.SIGNAL_UNREADABLE


@pytest.mark.parametrize(
    ("regs", "reason"),
    [
        pytest.param({"gdpr": 0, "ext": {"gdpr": 1}}, Reason.TCF_MISSING, id="gdpr in 2.5"),
        pytest.param({"gdpr": 1, "ext": {"gdpr": 0}}, Reason.TCF_MISSING, id="gdpr in 2.6"),
        pytest.param(
            {"us_privacy": "1YNN", "ext": {"us_privacy": "1YYN"}},
            Reason.US_PRIVACY_OPT_OUT,
            id="us_privacy in 2.5",
        ),
        pytest.param(
            {"gpp_sid": [], "ext": {"gpp_sid": [7]}}, Reason.GPP_MISSING, id="gpp_sid in 2.5"
        ),
        pytest.param(
            {"gpp_sid": [7], "ext": {"gpp_sid": [-1]}}, Reason.GPP_MISSING, id="gpp_sid in 2.6"
        ),
        pytest.param(
            {"gpp_sid": [7], "gpp": _USNAT, "ext": {"gpp": _USNAT_OPT_OUT}},
            Reason.GPP_OPT_OUT,
            id="gpp in 2.5",
        ),
        pytest.param(
            {"gpp_sid": [7], "gpp": _USNAT_OPT_OUT, "ext": {"gpp": _USNAT}},
            Reason.GPP_OPT_OUT,
            id="gpp in 2.6",
        ),
        pytest.param(
            {"gpp_sid": [7], "gpp": _USNAT, "ext": {"gpp_sid": [8]}},
            Reason.GPP_MISSING,
            id="another gpp_sid in 2.5",
        ),
    ],
)
def test_stricter_placement_wins(regs: dict[str, Any], reason: Reason) -> None:
    assert _refusal(regs=regs) is reason


@pytest.mark.parametrize(
    ("consent", "consent_25"),
    [
        pytest.param(_CONSENTS, _REFUSES, id="refusal in 2.5"),
        pytest.param(_REFUSES, _CONSENTS, id="refusal in 2.6"),
    ],
)
def test_both_tc_strings_must_permit(consent: str, consent_25: str) -> None:
    refusal = _refusal(user={"consent": consent, "ext": {"consent": consent_25}})

    assert refusal is Reason.TCF_NO_PURPOSE
    assert _refusal(user={"consent": _CONSENTS, "ext": {"consent": _CONSENTS}}) is Reason.NONE


def test_lmt_may_be_configured_to_take_only_the_device_id() -> None:
    lenient = replace(POLICY, lmt_refuses=False)

    assert _refusal(lenient, device={"lmt": 1}) is Reason.NONE
    assert _refusal(lenient, device={"lmt": "1"}) is Reason.SIGNAL_UNREADABLE
    assert _refusal(lenient, device={"ext": {"atts": 2}}) is Reason.NONE
    assert _refusal(lenient, device={"lmt": 1, "ext": {"atts": 7}}) is Reason.SIGNAL_UNREADABLE
    assert _refusal(lenient, device={"lmt": [], "ext": {"atts": 2}}) is Reason.SIGNAL_UNREADABLE


def test_gpp_without_gpp_sid_may_be_configured_to_apply_to_nothing() -> None:
    lenient = replace(POLICY, gpp_without_sid_refuses=False)

    assert _refusal(lenient, **_regs(gpp=_USNAT_OPT_OUT)) is Reason.NONE
    assert _refusal(lenient, **_regs(gpp="garbage", gpp_sid=[])) is Reason.NONE
    assert _refusal(lenient, **_regs(gpp=_USNAT_OPT_OUT, gpp_sid=[7])) is Reason.GPP_OPT_OUT


def test_2_of_personal_data_may_be_configured_to_permit() -> None:
    lenient = replace(POLICY, gpp_personal_data_2_permits=True)
    regs = _regs(gpp=gpp_string({7: us_section(7, PersonalDataConsents=2)}), gpp_sid=[7])

    assert _refusal(**regs) is Reason.GPP_PERSONAL_DATA
    assert _refusal(lenient, **regs) is Reason.NONE


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param('{"regs":{"coppa":1,"coppa":0}}', Reason.COPPA, id="coppa"),
        pytest.param('{"regs":{"coppa":0,"coppa":1}}', Reason.COPPA, id="coppa, the other first"),
        pytest.param(r'{"regs":{"coppa":1,"\u0063oppa":0}}', Reason.COPPA, id="in escapes"),
        pytest.param('{"regs":{"coppa":1},"regs":{}}', Reason.COPPA, id="regs"),
        pytest.param(r'{"r\u0065gs":{"coppa":1},"regs":{}}', Reason.COPPA, id="regs in escapes"),
        pytest.param('{"regs":{"coppa":1},"regs":null}', Reason.COPPA, id="regs, then null"),
        pytest.param('{"regs":{"coppa":1},"regs":[]}', Reason.COPPA, id="regs, then PHP's"),
        pytest.param('{"regs":"x","regs":{}}', Reason.SIGNAL_UNREADABLE, id="odd regs"),
        pytest.param('{"regs":{"ext":{"gpc":"1"},"ext":{}}}', Reason.GPC, id="regs.ext"),
        pytest.param('{"regs":{"ext":{"gpc":"1","gpc":"0"}}}', Reason.GPC, id="gpc"),
        pytest.param('{"device":{"lmt":1,"lmt":0}}', Reason.LMT, id="lmt"),
        pytest.param('{"device":{"lmt":1},"device":{"os":"x"}}', Reason.LMT, id="device"),
        pytest.param('{"device":{"ext":{"atts":2,"atts":3}}}', Reason.LMT, id="atts"),
        pytest.param('{"device":{"ext":{"atts":2},"ext":{}}}', Reason.LMT, id="device.ext"),
        pytest.param(
            '{"regs":{"us_privacy":"1YYN","us_privacy":"1YNN"}}',
            Reason.US_PRIVACY_OPT_OUT,
            id="us_privacy",
        ),
        pytest.param('{"regs":{"gdpr":1,"gdpr":0}}', Reason.TCF_MISSING, id="gdpr"),
        pytest.param(
            f'{{"user":{{"consent":"{_REFUSES}","consent":"{_CONSENTS}"}}}}',
            Reason.TCF_NO_PURPOSE,
            id="consent",
        ),
        pytest.param(
            f'{{"user":{{"consent":"{_REFUSES}"}},"user":{{"consent":"{_CONSENTS}"}}}}',
            Reason.TCF_NO_PURPOSE,
            id="user",
        ),
        pytest.param(
            f'{{"user":{{"ext":{{"consent":"{_REFUSES}"}},"ext":{{}}}}}}',
            Reason.TCF_NO_PURPOSE,
            id="user.ext",
        ),
        pytest.param(
            f'{{"regs":{{"gpp_sid":[7],"gpp":"{_USNAT_OPT_OUT}","gpp":"{_USNAT}"}}}}',
            Reason.GPP_OPT_OUT,
            id="gpp",
        ),
        pytest.param(
            f'{{"regs":{{"gpp_sid":[7],"gpp_sid":[-1],"gpp":"{_USNAT_OPT_OUT}"}}}}',
            Reason.GPP_OPT_OUT,
            id="gpp_sid",
        ),
        pytest.param('{"regs":{"coppa":0},"regs":{"coppa":0}}', Reason.NONE, id="no copy says no"),
    ],
)
def test_every_copy_that_says_no_refuses(body: str, reason: Reason) -> None:
    assert refusal(_decode(b'{"id":"1",' + body[1:].encode()), POLICY) is reason


@pytest.mark.parametrize(
    ("sid", "reason"),
    [
        pytest.param([7], Reason.GPP_OPT_OUT, id="the one that permits"),
        pytest.param([8], Reason.GPP_OPT_OUT, id="the one that does not"),
        pytest.param([-1], Reason.GPP_OPT_OUT, id="none"),
        pytest.param([9], Reason.GPP_MISSING, id="one that is not there"),
    ],
)
def test_every_section_of_the_string_may_be_read_whichever_is_named(
    sid: list[int], reason: Reason
) -> None:
    gpp = gpp_string({7: us_section(7), 8: us_section(8, SaleOptOut=1)})
    strict = replace(POLICY, gpp_every_section=True)

    assert _refusal(strict, **_regs(gpp=gpp, gpp_sid=sid)) is reason
    assert _refusal(strict, **_regs(gpp=_USNAT, gpp_sid=[7])) is Reason.NONE
    assert _refusal(**_regs(gpp=gpp, gpp_sid=[7])) is Reason.NONE


def test_dnt_may_be_configured_to_refuse() -> None:
    strict = replace(POLICY, dnt_refuses=True)

    assert _refusal(strict, device={"dnt": 1}) is Reason.DNT
    assert _refusal(strict, device={"dnt": 0}) is Reason.NONE
    assert _refusal(strict, device={"dnt": "1"}) is Reason.SIGNAL_UNREADABLE


def test_malformed_us_privacy_may_be_configured_as_not_said() -> None:
    lenient = replace(POLICY, us_privacy_malformed_refuses=False)

    assert _refusal(lenient, **_regs(us_privacy="garbage")) is Reason.NONE
    assert _refusal(lenient, **_regs(us_privacy=5)) is Reason.SIGNAL_UNREADABLE


def test_unsaid_gdpr_may_be_configured_to_apply() -> None:
    strict = replace(POLICY, gdpr_when_unsaid=True)

    assert _refusal(strict) is Reason.TCF_MISSING
    assert _refusal(strict, user={"consent": _CONSENTS}) is Reason.NONE
    assert _refusal(strict, **_regs(gdpr=0)) is Reason.NONE


@settings(max_examples=800, deadline=None)
@given(signals.REQUESTS, signals.POLICIES)
def test_short_cut_decides_as_asking_each_signal_does(
    fields: dict[str, Any], policy: Policy
) -> None:
    request = _decode(json.dumps({"id": "1", **fields}).encode())

    assert refusal(request, policy) is refusal_in_detail(request, policy)


@pytest.mark.parametrize("value", [0, None, 0.0, -0.0, 1, False, "", "0", [], "x", 2])
@pytest.mark.parametrize("place", signals.PLACES)
def test_short_cut_misses_no_signal_that_stands_alone(place: str, value: Any) -> None:
    fields = signals.said_at(place, value)
    request = _decode(json.dumps({"id": "1", **fields}).encode())

    assert refusal(request, POLICY) is refusal_in_detail(request, POLICY)


def test_decision_by_shared_regs_is_made_once_for_a_policy_and_anew_for_another() -> None:
    every = replace(POLICY, gpp_every_section=True)
    body = json.dumps({"id": "1", **_regs(gpp=_USNAT_OPT_OUT, gpp_sid=[-1])}).encode()
    requests = [_decode(body) for _ in range(2)]
    regs = requests[0].regs
    assert requests[1].regs is regs

    for policy, reason in ((POLICY, Reason.NONE), (every, Reason.GPP_OPT_OUT)) * 2:
        assert [refusal(request, policy) for request in requests] == [reason] * 2
        assert regs.decided_by is policy
        assert regs.gpp_refusal is reason
