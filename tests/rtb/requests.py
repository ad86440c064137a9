"""
Bid requests for the tests of the bid path, and a catalog to answer them by.

    account 1   partner "shop", audiences 1 to 5 with segments "101" to "105"
    account 2   partner "bank", audience 11 with segment "201", segtax 501

`json_values` are any JSON, `bodies` any bid request with a person that the
rules find; both written in the ways that senders write JSON.
"""

import json
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Raw

from rtb.catalog import Catalog
from rtb.consent.decision import Policy
from rtb.consent.tcf import Vendor
from rtb.id_rules import DEFAULT_RULES
from rtb.pipeline import Pipeline, PipelineOptions, Question, Result
from segments.model.catalog import AccountEntry, AudienceEntry, CatalogSnapshot, RecipientEntry
from segments.model.record import Membership, OptOut, Record, pack
from tests.rtb.consent.strings import TCF_23_SINCE_DS

DIGEST = "a1" * 32
NOW_S = 1_800_000_000

POLICY = Policy(
    lmt_refuses=True,
    dnt_refuses=False,
    us_privacy_malformed_refuses=True,
    gdpr_when_unsaid=False,
    vendor=Vendor.of(148, (1, 3, 4), TCF_23_SINCE_DS),
    gpp_without_sid_refuses=True,
    gpp_every_section=False,
    gpp_personal_data_2_permits=False,
)
OPTIONS = PipelineOptions(
    id_rules=DEFAULT_RULES,
    strip_paths=("user.ext.hashes",),
    max_ids=10,
    max_segments=64,
    consent=POLICY,
)
PIPELINE = Pipeline(OPTIONS)

SHOP = AccountEntry(1, "advertiser", "shop", "Shop", is_active=True)
BANK = AccountEntry(2, "advertiser", "bank", 'The "Bank"', is_active=True, segtax=501)
SHOP_AUDIENCES = tuple(AudienceEntry(i, 1, 1, f"10{i}", is_active=True) for i in range(1, 6))
BANK_AUDIENCE = AudienceEntry(11, 2, 2, "201", is_active=True)


def snapshot(
    *,
    audiences: tuple[AudienceEntry, ...] = (*SHOP_AUDIENCES, BANK_AUDIENCE),
    accounts: tuple[AccountEntry, ...] = (SHOP, BANK),
    recipients: tuple[RecipientEntry, ...] = (),
) -> CatalogSnapshot:
    """Make a snapshot of the accounts above, but for what is given."""
    return CatalogSnapshot(7, audiences, accounts, recipients)


CATALOG = Catalog.from_snapshot(snapshot())


def bid_request(user: Any = None, **fields: Any) -> bytes:
    """Make a request, by default of the person with the hashed e-mail address `DIGEST`."""
    if user is None:
        user = {"eids": [{"source": "liveintent.com", "uids": [{"id": DIGEST}]}]}
    return json.dumps({"id": "r1", "imp": [{"id": "1"}], "user": user, **fields}).encode()


def packed(*audience_ids: int, opt_outs: tuple[OptOut, ...] = ()) -> bytes:
    """Pack what the store holds of a person."""
    return pack(Record(opt_outs, tuple(Membership(id_) for id_ in audience_ids)))


def ask(
    body: bytes,
    *,
    pipeline: Pipeline = PIPELINE,
    catalog: Catalog = CATALOG,
    recipient: str | None = None,
) -> Question | Result:
    """Put a body to the first half."""
    known = catalog.recipient(recipient)
    assert known is not None
    return pipeline.ask(body, known, catalog)


def asked(
    body: bytes,
    *,
    pipeline: Pipeline = PIPELINE,
    catalog: Catalog = CATALOG,
    recipient: str | None = None,
) -> Question:
    """Put a body to the first half, which has a question."""
    question = ask(body, pipeline=pipeline, catalog=catalog, recipient=recipient)
    assert isinstance(question, Question)
    return question


def answered(
    body: bytes,
    found: bytes | None,
    *,
    pipeline: Pipeline = PIPELINE,
    catalog: Catalog = CATALOG,
    recipient: str | None = None,
    now_s: float = NOW_S,
) -> Result:
    """Take a body through both halves; the store holds `found` of the first id, nothing else."""
    question = asked(body, pipeline=pipeline, catalog=catalog, recipient=recipient)
    return pipeline.answer(question, [found] + [None] * (len(question.ids) - 1), now_s)


def members(obj: bytes | Raw) -> dict[str, bytes]:
    """Take an object apart into the bytes of its members, the later of one name winning."""
    raw = msgspec.json.decode(obj, type=dict[str, Raw])
    return {name: bytes(value) for name, value in raw.items()}


# Numbers that a decoder and encoder would spell otherwise, or lose.
_NUMBERS = st.sampled_from(
    [b"0", b"-0", b"1.10", b"1e2", b"1E+2", b"12345678901234567890123", b"0.1", b"-1.0", b"1e999"]
)
_STRINGS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(
        lambda text: json.dumps(text, ensure_ascii=False).encode()
    ),
    st.sampled_from([rb'"\u00e9"', rb'"\/"', rb'"\ud83d\ude00"', b'"user"', b'"{}"', b'"]}"']),
)
_SPACE = st.sampled_from([b"", b"", b" ", b"\n  ", b"\t"])


def _array(values: list[bytes], space: bytes) -> bytes:
    return b"[" + space + (b"," + space).join(values) + space + b"]"


def _object(pairs: list[tuple[bytes, bytes]], space: bytes) -> bytes:
    inside = (b"," + space).join(name + space + b":" + space + value for name, value in pairs)
    return b"{" + space + inside + space + b"}"


# Names that mean something to us, where they should stand and where not.
_NAMES = st.sampled_from(
    [
        b'"id"', b'"user"', b'"data"', b'"ext"', b'"eids"', b'"uids"', b'"source"', b'"hashes"',
        b'"email"', b'"segment"', b'"regs"', b'"device"', b'"ifa"', b'"lmt"', b'"gpp_sid"',
        b'"consent"', b'"gdpr"', b'"coppa"', b'"us_privacy"', b'"stype"', b'"publisher"',
        b'"tmax"', b'"x"', rb'"\u0075ser"',
    ]
)  # fmt: skip

json_values = st.recursive(
    _NUMBERS | _STRINGS | st.sampled_from([b"null", b"true", b"false", b"{}", b"[]", b'"1"', b"1"]),
    lambda inner: st.one_of(
        st.builds(_array, st.lists(inner, max_size=3), _SPACE),
        st.builds(_object, st.lists(st.tuples(_NAMES, inner), max_size=4), _SPACE),
    ),
    max_leaves=12,
)
"""Any JSON, as bytes; numbers that no double holds among them."""


_OTHER_NAMES = st.sampled_from(
    [b'"imp"', b'"site"', b'"ext"', b'"at"', b'"bcat"', b'"source"', rb'"\u0065xt2"']
)
others = st.lists(st.tuples(_OTHER_NAMES, json_values), max_size=4, unique_by=lambda pair: pair[0])
"""Members of a bid request that are no business of ours."""

_SEGMENT = st.builds(
    lambda id_, rest: _object([(b'"id"', id_), *rest], b""),
    st.sampled_from([b'"101"', b'"102"', b'"999"', b"101"]),
    st.lists(st.tuples(st.just(b'"name"'), json_values), max_size=1),
)
_SEGMENTS = st.builds(_array, st.lists(_SEGMENT | json_values, max_size=3), _SPACE)
_DATA = st.builds(
    lambda id_, segment, rest, space: _object([(b'"id"', id_), *segment, *rest], space),
    st.sampled_from([b'"shop"', b'"bank"', b'"77"', b"77"]),
    st.lists(st.tuples(st.just(b'"segment"'), _SEGMENTS | json_values), max_size=1),
    st.lists(st.tuples(st.just(b'"ext"'), json_values), max_size=1),
    _SPACE,
)
user_data = st.builds(_array, st.lists(_DATA | json_values, max_size=3), _SPACE) | st.just(b"null")
"""Any `user.data` that segments can be added to."""

_EIDS = b'[{"source":"liveintent.com","uids":[{"id":"%b"}]}]' % DIGEST.encode()
_USER_NAMES = st.sampled_from([b'"id"', b'"yob"', b'"geo"', b'"keywords"', rb'"\u0078"'])


def _user(data: list[bytes], rest: list[tuple[bytes, bytes]], space: bytes) -> bytes:
    ours = [(b'"eids"', _EIDS), *((b'"data"', value) for value in data)]
    return _object([*rest, *ours], space)


users = st.builds(
    _user,
    st.lists(user_data, max_size=1),
    st.lists(st.tuples(_USER_NAMES, json_values), max_size=3, unique_by=lambda pair: pair[0]),
    _SPACE,
)
"""Any user whose id is known by its hashed e-mail address."""

bodies = st.builds(
    lambda user, before, after, space: _object(
        [(b'"id"', b'"r1"'), *before, (b'"user"', user), *after], space
    ),
    users,
    others,
    st.lists(st.tuples(st.just(b'"badv"'), json_values), max_size=1),
    _SPACE,
)
"""Any bid request of that person that says nothing against it."""
