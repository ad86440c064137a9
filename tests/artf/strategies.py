"""Calls that a host might make, by the official runtime."""

from typing import Any

from hypothesis import strategies as st

from loadtest.artf.messages import rtb_request

_texts = st.sampled_from(["", "a", "1", "1YNN", "1YYN", "é", "x" * 130]) | st.text(max_size=6)
_flags = st.sampled_from([0, 1, 1, 2, -1])
_ints = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 1, 2, 3])


def _some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=members)


_uids = _some(id=_texts, atype=_ints)
_eids = st.lists(
    _some(
        source=st.sampled_from(["liveintent.com", "a.example"]) | _texts,
        uids=st.lists(_uids, max_size=3),
        inserter=_texts,
    ),
    max_size=3,
)
_data = st.lists(
    _some(
        id=st.sampled_from(["shop", "bank"]) | _texts,
        name=_texts,
        segment=st.lists(_some(id=_texts, name=_texts), max_size=3),
    ),
    max_size=2,
)
_publisher = _some(publisher=_some(id=_texts, name=_texts), id=_texts)
_bids = st.tuples(
    _some(
        id=_texts,
        imp=st.lists(_some(id=_texts, bidfloor=st.just(0.5)), max_size=2),
        device=_some(
            dnt=_flags, ua=_texts, ifa=_texts, lmt=_flags, ext=_some(atts=st.integers(-1, 4))
        ),
        user=_some(
            id=_texts,
            buyeruid=_texts,
            data=_data,
            consent=_texts,
            eids=_eids,
            ext=_some(consent=_texts, eids=_eids),
        ),
        regs=_some(
            coppa=_flags,
            gpp=_texts,
            gpp_sid=st.lists(_ints, max_size=3),
            gdpr=_flags,
            us_privacy=_texts,
            ext=_some(gdpr=_flags, us_privacy=_texts, gpc=_texts),
        ),
        tmax=_ints,
    ),
    # One of these, as they exclude each other.
    st.sampled_from(["site", "app", "dooh"]),
    _publisher | st.none(),
).map(lambda parts: parts[0] | ({} if parts[2] is None else {parts[1]: parts[2]}))

rtb_requests = st.builds(
    lambda bid, members: rtb_request(bid, **members),
    _bids | st.none(),
    _some(
        lifecycle=st.integers(0, 3),
        id=_texts,
        tmax=_ints,
        originator=_some(type=_ints, id=_texts),
        applicable_intents=st.lists(st.integers(0, 3) | st.just(1000), max_size=3),
    ),
)
"""An `RTBRequest` as bytes: any of its members, or none."""
