import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from rtb.id_rules import DEFAULT_RULES, IdRule
from rtb.identify import Identify
from rtb.openrtb.copies import MAX_UIDS
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
            _eids("liveintent.com", {"id": f" {DIGEST.upper()}\n"}),
            (IdentifierKind.EMAIL, EMAIL),
            id="a hash with blanks around",
        ),
        pytest.param(
            _eids("liveintent.com", {"id": f"sha256:{DIGEST}"}),
            (IdentifierKind.EMAIL, EMAIL),
            id="a hash behind its function",
        ),
        pytest.param(
            {"user": {"ext": {"hashes": {"email": f"'0x{DIGEST}'"}}}},
            (IdentifierKind.EMAIL, EMAIL),
            id="a hash in quotes behind 0x",
        ),
        pytest.param(
            _eids(" LiveIntent.com ", {"id": DIGEST}),
            (IdentifierKind.EMAIL, EMAIL),
            id="a source with blanks around",
        ),
        pytest.param(
            _eids("publisher.example", {"id": DIGEST, "ext": {"stype": " HemSHA256"}}),
            (IdentifierKind.EMAIL, EMAIL),
            id="an stype in capitals",
        ),
        pytest.param(
            _eids("pubcid.org", {"id": "u1", "ext": {"provider": "LIVEINTENT.com"}}),
            (IdentifierKind.EID, id_of_eid("pubcid.org", "u1")),
            id="a provider in capitals",
        ),
        pytest.param(
            {"device": {"ifa": f"{{{IFA.lower()}}}"}},
            (IdentifierKind.IFA, id_of_ifa(IFA)),
            id="ifa in braces",
        ),
        pytest.param(
            {"device": {"ifa": IFA.replace("-", "")}},
            (IdentifierKind.IFA, id_of_ifa(IFA)),
            id="ifa without dashes",
        ),
        pytest.param(
            {"device": {"ifa": f" {IFA}\t"}},
            (IdentifierKind.IFA, id_of_ifa(IFA)),
            id="ifa with blanks around",
        ),
        pytest.param(
            {"device": {"ifa": IFA, "ext": {"atts": 3}}},
            (IdentifierKind.IFA, id_of_ifa(IFA)),
            id="ifa of a device that allows tracking",
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
        pytest.param(
            {**_eids("fpid.liveintent.com", {"id": DUID}), "regs": {"ext": {"coppa": 1}}},
            id="a cookie under COPPA in ext",
        ),
        pytest.param({"device": {"ifa": IFA, "lmt": 1}}, id="ifa under lmt"),
        pytest.param({"device": {"ifa": IFA, "ext": {"atts": 0}}}, id="ifa, tracking undetermined"),
        pytest.param({"device": {"ifa": IFA, "lmt": 0, "ext": {"atts": 2}}}, id="ifa, denied"),
        pytest.param({"device": {"ifa": f"{{{'0' * 32}}}"}}, id="ifa of zeros in braces"),
        pytest.param(_eids(" UIDAPI.com", {"id": "A4A"}), id="UID2 with blanks around"),
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


def test_eids_of_both_places_are_looked_up() -> None:
    """
    SDKs write them to both, or different ones to each; an opt-out may stand in either.
    """
    old = [{"source": "liveintent.com", "uids": [{"id": "old"}]}]
    new = [{"source": "liveintent.com", "uids": [{"id": "new"}]}]
    both = {
        (IdentifierKind.EID, id_of_eid("liveintent.com", "new")),
        (IdentifierKind.EID, id_of_eid("liveintent.com", "old")),
    }

    assert set(_ids(user={"eids": new, "ext": {"eids": old}})) == both
    assert len(_ids(user={"eids": new, "ext": {"eids": new}})) == 1
    assert len(_ids(user={"eids": [None], "ext": {"eids": old}})) == 1
    assert len(_ids(user={"eids": new, "ext": {"eids": [None]}})) == 1


@pytest.mark.parametrize("blanks", [" {}", "{}\n", "\t {} ", "\u00a0{}"])
@pytest.mark.parametrize(
    ("source", "id_of"),
    [
        pytest.param("liveintent.com", lambda uid: id_of_eid("liveintent.com", uid), id="eid"),
        pytest.param("fpid.liveintent.com", id_of_duid, id="DUID"),
    ],
)
def test_opaque_id_with_blanks_around_is_looked_up_as_it_stands_and_trimmed(
    source: str, id_of: Callable[[str], Id], blanks: str
) -> None:
    text = blanks.format("o p")

    ids = {id_ for _, id_ in _ids(**_eids(source, {"id": text}))}

    assert ids == {id_of(text), id_of("o p")}


def test_opaque_id_that_blanks_make_too_long_is_looked_up_trimmed() -> None:
    text = "x" + " " * 300

    assert _ids(**_eids("liveintent.com", {"id": text})) == [
        (IdentifierKind.EID, id_of_eid("liveintent.com", "x"))
    ]


_NOTHING = [
    *(hashlib.new(name, b"").hexdigest() for name in ("md5", "sha1", "sha256")),
    *(digit * chars for digit in "0fF" for chars in (32, 40, 64)),
]


@pytest.mark.parametrize("digest", _NOTHING)
def test_hash_of_nothing_is_nobody(digest: str) -> None:
    """
    Exports make it of empty cells: whoever is found by it is everybody.
    """
    phone = IdRule(IdentifierKind.PHONE, path="user.ext.phone")

    assert _ids(**_eids("liveintent.com", {"id": digest})) == []
    assert _ids(**_eids("x.com", {"id": f" {digest}", "ext": {"stype": "hemmd5"}})) == []
    assert _ids(user={"ext": {"hashes": {"email": [digest]}}}) == []
    assert _ids(phone, user={"ext": {"phone": digest}}) == []


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        pytest.param(
            '{"user":{"eids":[{"source":"liveintent.com","uids":[{"id":"a","id":"b"}]}]}}',
            {"a", "b"},
            id="id",
        ),
        pytest.param(
            '{"user":{"eids":[{"source":"liveintent.com","source":"x","uids":[{"id":"a"}]}]}}',
            {"a"},
            id="source",
        ),
        pytest.param(
            '{"user":{"eids":[{"source":"liveintent.com","uids":[{"id":"a"}],"uids":[]}]}}',
            {"a"},
            id="uids",
        ),
        pytest.param(
            '{"user":{"eids":[{"source":"liveintent.com","uids":[{"id":"a"}]}],"eids":[]}}',
            {"a"},
            id="eids",
        ),
        pytest.param(
            '{"user":{"ext":{"eids":[{"source":"liveintent.com","uids":[{"id":"a"}]}]},"ext":{}}}',
            {"a"},
            id="user.ext",
        ),
        pytest.param(
            '{"user":{"eids":[{"source":"liveintent.com","uids":[{"id":"a"}]}]},"user":{}}',
            {"a"},
            id="user",
        ),
        pytest.param(
            r'{"us\u0065r":{"eids":[{"source":"liveintent.com","uids":[{"id":"a"}]}]},"user":null}',
            {"a"},
            id="user in escapes",
        ),
    ],
)
def test_ids_of_every_copy_are_looked_up(body: str, texts: set[str]) -> None:
    decoder = Decoder(rule.path for rule in DEFAULT_RULES if rule.path)
    request = decoder(b'{"id":"1",' + body[1:].encode())

    ids, _ = Identify(DEFAULT_RULES, decoder)(request)

    assert set(ids) == {id_of_eid("liveintent.com", text) for text in texts}


@pytest.mark.parametrize(
    ("body", "count"),
    [
        pytest.param(f'{{"device":{{"ifa":"{IFA}"}},"device":{{}}}}', 1, id="device"),
        pytest.param(f'{{"device":{{"ifa":"{IFA}","ifa":""}}}}', 1, id="ifa"),
        pytest.param(
            f'{{"user":{{"ext":{{"hashes":{{"email":"{DIGEST}","email":"{"b2" * 32}"}}}}}}}}',
            2,
            id="email",
        ),
        pytest.param(
            f'{{"user":{{"eids":[{{"source":"x.com","uids":[{{"id":"{DIGEST}",'
            '"ext":{"stype":"hemsha256","stype":"x"}}]}]}}',
            1,
            id="stype",
        ),
        pytest.param(
            '{"user":{"eids":[{"source":"x.com","uids":[{"id":"a",'
            '"ext":{"provider":"liveintent.com"},"ext":{}}]}]}}',
            1,
            id="uid.ext",
        ),
    ],
)
def test_identifiers_of_every_copy_are_found_wherever_they_are_configured(
    body: str, count: int
) -> None:
    decoder = Decoder(rule.path for rule in DEFAULT_RULES if rule.path)
    request = decoder(b'{"id":"1",' + body[1:].encode())

    assert len(Identify(DEFAULT_RULES, decoder)(request)[0]) == count


def test_copies_that_multiply_are_refused_rather_than_counted() -> None:
    """
    A source twice and an id twice are four uids; thousands of each were a worker's minute.
    """
    body = (
        b'{"id":"1","user":{"eids":[{' + b'"source":"x",' * 3_000 + b'"uids":[{'
        + b'"id":"y",' * 3_000 + b'"atype":1}]}]}}'
    )  # fmt: skip

    request = Decoder()(body)

    assert request.is_odd
    assert len(request.uids) <= MAX_UIDS


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
