import json
from typing import Any

import pytest

from rtb.id_rules import DEFAULT_RULES, IdRule
from rtb.identify import Identify
from rtb.openrtb.decode import Decoder
from segments.model.identity import (
    Id,
    IdentifierKind,
    id_of_duid,
    id_of_eid,
    id_of_email_hash,
    id_of_ifa,
    id_of_phone_hash,
)
from tests.rtb.requests import DIGEST

EMAIL = id_of_email_hash(DIGEST)
DUID = "df9f30ab37f2--01dwcepmbbbqm0hvj4wytvyss4"
IFA = "8AAAB0F5-6F3C-4C44-9B3A-0A5D2F1A7C11"


def _ids(*rules: IdRule, **fields: Any) -> list[tuple[IdentifierKind, Id]]:
    rules = rules or DEFAULT_RULES
    decoder = Decoder(rule.path for rule in rules if rule.path)
    request = decoder(json.dumps({"id": "1", **fields}).encode())
    ids, kinds = Identify(rules, decoder)(request)
    return list(zip(kinds, ids, strict=True))


def _eids(source: Any, *uids: Any) -> dict[str, Any]:
    return {"user": {"eids": [{"source": source, "uids": list(uids)}]}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            _eids("liveintent.com", {"id": DIGEST}),
            (IdentifierKind.EMAIL, EMAIL),
            id="a hash at liveintent.com",
        ),
        pytest.param(
            _eids("LiveIntent.com", {"id": DIGEST.upper()}),
            (IdentifierKind.EMAIL, EMAIL),
            id="source and hash in any case",
        ),
        pytest.param(
            _eids("liveintent.com", {"id": "opaque"}),
            (IdentifierKind.EID, id_of_eid("liveintent.com", "opaque")),
            id="no hash at liveintent.com",
        ),
        pytest.param(
            _eids("fpid.liveintent.com", {"id": DUID}),
            (IdentifierKind.DUID, id_of_duid(DUID)),
            id="a first-party cookie",
        ),
        pytest.param(
            _eids("publisher.example", {"id": DIGEST, "ext": {"stype": "hemsha256"}}),
            (IdentifierKind.EMAIL, EMAIL),
            id="a hash by its stype",
        ),
        pytest.param(
            _eids("pubcid.org", {"id": "u1", "ext": {"provider": "liveintent.com"}}),
            (IdentifierKind.EID, id_of_eid("pubcid.org", "u1")),
            id="any source by its provider",
        ),
        pytest.param(
            _eids("liveintent.com", {"id": DIGEST, "ext": {"stype": "ppuid"}}),
            (IdentifierKind.EMAIL, EMAIL),
            id="an ext that no rule names",
        ),
        pytest.param(
            {"user": {"ext": {"eids": _eids("liveintent.com", {"id": DIGEST})["user"]["eids"]}}},
            (IdentifierKind.EMAIL, EMAIL),
            id="eids where 2.5 has them",
        ),
        pytest.param(
            {"user": {"ext": {"hashes": {"email": DIGEST}}}},
            (IdentifierKind.EMAIL, EMAIL),
            id="a hash in user.ext.hashes",
        ),
        pytest.param(
            {"user": {"ext": {"hashes": {"email": [DIGEST, 5, "x"]}}}},
            (IdentifierKind.EMAIL, EMAIL),
            id="several of them, some of them none",
        ),
        pytest.param(
            {"device": {"ifa": IFA, "lmt": 0}}, (IdentifierKind.IFA, id_of_ifa(IFA)), id="ifa"
        ),
    ],
)
def test_defaults_find(fields: dict[str, Any], expected: tuple[IdentifierKind, Id]) -> None:
    assert _ids(**fields) == [expected]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="nobody"),
        pytest.param(_eids("uidapi.com", {"id": "A4A"}), id="UID2 is an encrypted token"),
        pytest.param(
            _eids("UIDAPI.com", {"id": DIGEST, "ext": {"stype": "hemsha256"}}),
            id="UID2 whatever its ext says",
        ),
        pytest.param(_eids("id5-sync.com", {"id": "ID5*x"}), id="a source without a rule"),
        pytest.param(
            _eids("publisher.example", {"id": "no hash", "ext": {"stype": "hemmd5"}}),
            id="a stype that is not so",
        ),
        pytest.param(
            {**_eids("fpid.liveintent.com", {"id": DUID}), "regs": {"coppa": 1}},
            id="a cookie under COPPA",
        ),
        pytest.param({"device": {"ifa": IFA, "lmt": 1}}, id="ifa under lmt"),
        pytest.param({"device": {"ifa": IFA.replace("8", "x")}}, id="ifa that is no UUID"),
        pytest.param(
            {"device": {"ifa": "00000000-0000-0000-0000-000000000000"}}, id="ifa of zeros"
        ),
        pytest.param({"user": {"buyeruid": "b1"}}, id="buyeruid is off by default"),
        pytest.param({"user": 5}, id="user is a number"),
        pytest.param({"user": {"eids": {}, "ext": []}}, id="eids are an object"),
        pytest.param({"user": {"eids": [5, None, {"source": 5, "uids": []}]}}, id="odd eids"),
        pytest.param(_eids("liveintent.com", 5, {"id": 5}, {}), id="odd uids"),
        pytest.param(
            {"user": {"eids": [{"source": "liveintent.com", "uids": "x"}]}}, id="uids are text"
        ),
        pytest.param(_eids("x.com", {"id": "1", "ext": {"stype": []}}), id="stype is an array"),
        pytest.param(_eids("x.com", {"id": "1", "ext": 5}), id="uid.ext is a number"),
        pytest.param({"user": {"ext": {"hashes": "x"}}}, id="hashes are text"),
        pytest.param({"user": {"ext": {"hashes": {"email": {}}}}}, id="email is an object"),
    ],
)
def test_what_is_no_identifier_is_no_error(fields: dict[str, Any]) -> None:
    assert _ids(**fields) == []


def test_each_id_is_looked_up_once() -> None:
    fields = _eids("liveintent.com", {"id": DIGEST}, {"id": DIGEST.upper()})

    assert _ids(**fields) == [(IdentifierKind.EMAIL, EMAIL)]


def test_most_trusted_id_comes_first_wherever_it_stands() -> None:
    found = _ids(
        device={"ifa": IFA},
        user={
            "eids": [
                {"source": "liveintent.com", "uids": [{"id": "opaque"}]},
                {"source": "fpid.liveintent.com", "uids": [{"id": DUID}]},
            ],
            "ext": {"hashes": {"email": DIGEST}},
        },
    )

    assert [kind for kind, _ in found] == [
        IdentifierKind.EMAIL,
        IdentifierKind.DUID,
        IdentifierKind.EID,
        IdentifierKind.IFA,
    ]


def test_26_placement_wins_over_that_of_25() -> None:
    old = [{"source": "liveintent.com", "uids": [{"id": "old"}]}]
    new = [{"source": "liveintent.com", "uids": [{"id": "new"}]}]

    assert _ids(user={"eids": new, "ext": {"eids": old}}) == [
        (IdentifierKind.EID, id_of_eid("liveintent.com", "new"))
    ]


def test_cookie_under_coppa_is_not_read_as_something_else() -> None:
    """A later rule of the same source must not bring back what an earlier one may not read."""
    rules = (
        IdRule(IdentifierKind.DUID, source="fpid.liveintent.com"),
        IdRule(IdentifierKind.EID, source="fpid.liveintent.com"),
    )
    fields = _eids("fpid.liveintent.com", {"id": DUID})

    assert _ids(*rules, **fields, regs={"coppa": 1}) == []


@pytest.mark.parametrize(
    ("rule", "fields", "expected"),
    [
        pytest.param(
            IdRule(IdentifierKind.EID, path="user.buyeruid", source="buyeruid"),
            {"user": {"buyeruid": "b1"}},
            (IdentifierKind.EID, id_of_eid("buyeruid", "b1")),
            id="buyeruid",
        ),
        pytest.param(
            IdRule(IdentifierKind.EMAIL, path="site.ext.reader.hem"),
            {"site": {"ext": {"reader": {"hem": DIGEST}}}},
            (IdentifierKind.EMAIL, EMAIL),
            id="a path outside of user and device",
        ),
        pytest.param(
            IdRule(IdentifierKind.EMAIL, path="user.ext.x-hem"),
            {"user": {"ext": {"x-hem": DIGEST}}},
            (IdentifierKind.EMAIL, EMAIL),
            id="a name that is no Python name",
        ),
        pytest.param(
            IdRule(IdentifierKind.PHONE, path="device.ext.phone"),
            {"device": {"ext": {"phone": DIGEST}}},
            (IdentifierKind.PHONE, id_of_phone_hash(DIGEST)),
            id="a phone hash",
        ),
    ],
)
def test_configured_rule_finds(
    rule: IdRule, fields: dict[str, Any], expected: tuple[IdentifierKind, Id]
) -> None:
    assert _ids(rule, **fields) == [expected]


def test_number_that_no_double_holds_is_no_identifier() -> None:
    decoder = Decoder(["device.ifa"])
    request = decoder(b'{"id":"1","device":{"ifa":[1e999]}}')

    assert Identify([IdRule(IdentifierKind.IFA, path="device.ifa")], decoder)(request) == ((), ())


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"source": "UIDAPI.com"}, id="encrypted tokens"),
        pytest.param({}, id="reads nothing"),
        pytest.param({"source": "a.com", "stype": ("x",)}, id="two conditions"),
        pytest.param({"path": "user.x", "provider": "a.com"}, id="path and eids"),
        pytest.param({"path": "user..x"}, id="a path with a hole"),
        pytest.param({"path": "user.x"}, id="an eid without a source"),
    ],
)
def test_rule_that_could_mean_two_things_or_nothing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        IdRule(IdentifierKind.EID, **fields)


@pytest.mark.parametrize("path", ["regs.coppa", "user.consent", "user.ext.eids", "device.lmt"])
def test_path_that_leads_to_a_signal_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=path):
        Identify([IdRule(IdentifierKind.EMAIL, path=path)], Decoder([path]))
