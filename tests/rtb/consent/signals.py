"""Any bid request's privacy signals, readable or not, for Hypothesis; and any policy."""

from typing import Any

from hypothesis import strategies as st

from rtb.consent.decision import Policy
from tests.rtb.consent.strings import gpp_string, tc_string, us_section
from tests.rtb.requests import POLICY

_CONSENTS = tc_string()
_REFUSES = tc_string(purposes=[1, 2])
_USNAT = gpp_string({7: us_section(7)})
_USNAT_OPT_OUT = gpp_string({7: us_section(7, SaleOptOut=1)})

FLAGS: st.SearchStrategy[Any] = st.sampled_from(
    [None, 0, 0, 1, 2, -1, 0.0, -0.0, 1.0, False, True, "0", "1", "", [], {}]
)
SIDS: st.SearchStrategy[Any] = st.sampled_from(
    [None, [], [0], [-1], [7], [2], [6], [5], 7, "7", [0.0], [False], {}]
)
TEXTS: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "x", _CONSENTS, _REFUSES, _USNAT, _USNAT_OPT_OUT, "1YNN", "1YYN", 0, False, []]
)


def _object(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have any of these members."""
    return st.fixed_dictionaries({}, optional=members)


REQUESTS = _object(
    regs=_object(
        coppa=FLAGS,
        gdpr=FLAGS,
        us_privacy=TEXTS,
        gpp=TEXTS,
        gpp_sid=SIDS,
        ext=_object(
            coppa=FLAGS,
            gdpr=FLAGS,
            us_privacy=TEXTS,
            gpp=TEXTS,
            gpp_sid=SIDS,
            gpc=FLAGS,
        ),
    ),
    user=_object(consent=TEXTS, ext=_object(consent=TEXTS)),
    device=_object(lmt=FLAGS, dnt=FLAGS, ext=_object(atts=FLAGS | st.just(3))),
)
PLACES = (
    "regs.coppa", "regs.gdpr", "regs.us_privacy", "regs.gpp", "regs.gpp_sid", "regs.ext.gdpr",
    "regs.ext.us_privacy", "regs.ext.gpp", "regs.ext.gpp_sid", "regs.ext.gpc", "user.consent",
    "user.ext.consent", "device.lmt", "device.dnt", "regs.ext.coppa", "device.ext.atts",
)  # fmt: skip


def said_at(place: str, value: Any) -> dict[str, Any]:
    """Return a request that says one thing."""
    fields = value
    for name in reversed(place.split(".")):
        fields = {name: fields}
    said: dict[str, Any] = fields
    return said


_TEXT_NAMES = ("us_privacy", "gpp", "consent")


def _values(place: str) -> st.SearchStrategy[Any]:
    name = place.rpartition(".")[2]
    return TEXTS if name in _TEXT_NAMES else SIDS if name == "gpp_sid" else FLAGS


ALONE = st.sampled_from(PLACES).flatmap(
    lambda place: st.builds(said_at, st.just(place), _values(place))
)
"""Requests that say one thing, which a request that says many hides behind another."""

POLICIES = st.builds(
    Policy,
    lmt_refuses=st.booleans(),
    dnt_refuses=st.booleans(),
    us_privacy_malformed_refuses=st.booleans(),
    gdpr_when_unsaid=st.booleans(),
    vendor=st.just(POLICY.vendor),
    gpp_without_sid_refuses=st.booleans(),
    gpp_every_section=st.booleans(),
    gpp_personal_data_2_permits=st.booleans(),
)
