"""Two ways to read a request: taken apart by `scan`, or decoded as a whole. They are one."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

import rtb.openrtb.decode as decode_module
from rtb.id_rules import DEFAULT_RULES
from rtb.identify import Identify
from rtb.openrtb.decode import Decoder
from rtb.openrtb.inventory import publisher_ids
from rtb.openrtb.request import Request
from rtb.openrtb.signals import MOST_KEPT_LAWS
from rtb.outcome import MalformedRequest, Reason
from tests.rtb.requests import bid_request, bodies, json_values

# Where nothing is compiled there is one way, and nothing to compare.
is_compiled = not str(decode_module.__file__).endswith(".py")
pytestmark = pytest.mark.skipif(not is_compiled, reason="scan.pyx is compiled with the bid path")

RULES = DEFAULT_RULES
PATHS = ("user.ext.hashes.email", "device.ifa")
STRIP_PATHS = ("user.ext.hashes",)

_scanning = Decoder(PATHS, STRIP_PATHS)
_whole = Decoder(PATHS, STRIP_PATHS)
_whole._scan = None


def read(decoder: Decoder, body: bytes) -> Request | Reason:
    try:
        return decoder(body)
    except MalformedRequest as malformed:
        return malformed.reason


def fields(decoder: Decoder, request: Request) -> dict[str, Any]:
    """All that stages read of a request."""
    return {
        "body": request.body,
        "tmax": request.tmax,
        "uids": plain(request.uids),
        "consents": plain(request.consents),
        "device": [said(getattr(request.tracking, name)) for name in SETTINGS],
        "is_limited": request.tracking.is_limited,
        "regs": {name: plain(getattr(request.regs, name)) for name in SIGNALS},
        "ids": Identify(RULES, decoder)(request),
        "publishers": publisher_ids(request),
        "user_raw": request.user_raw,
        "user_data": request.user_data,
        "is_odd": request.is_odd,
        "id": request.id_raw,
    }


def configured(decoder: Decoder, request: Request) -> list[Any]:
    return [plain(decoder.reader(path)[0](request)) for path in PATHS]


SIGNALS = ("coppa", "gdpr", "us_privacy", "gpp", "gpp_sid", "gpc", "is_odd", "is_silent")
SETTINGS = ("lmt", "dnt", "atts")


def said(setting: Any) -> Any:
    """A plain 0 in a device, and 3 in its ext, say as much as nothing, and may be passed over."""
    return [plain(value) for value in setting if type(value) is not int or value not in {0, 3}]


def plain(value: Any) -> Any:
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, msgspec.Struct):
        return {name: plain(inner) for name, inner in msgspec.structs.asdict(value).items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def check(body: bytes) -> None:
    scanned, whole = read(_scanning, body), read(_whole, body)
    if isinstance(scanned, Reason) or isinstance(whole, Reason):
        assert scanned is whole
        return
    assert fields(_scanning, scanned) == fields(_whole, whole)
    # Where members are read as pairs, the configured ones are read there, and compared as ids.
    if scanned.copies is None and whole.copies is None:
        assert configured(_scanning, scanned) == configured(_whole, whole)
    if scanned.is_scanned:
        check_places(scanned)


def check_places(request: Request) -> None:
    assert b'"hashes"' not in request.body or "hashes" not in names_in(json.loads(request.body))
    user, data = request.user_raw, request.user_data
    assert bool(request.user_end) == bool(user)
    assert bool(request.data_end) == bool(data)
    assert request.body[request.user_end - len(user) : request.user_end] == user
    assert request.body[request.data_end - len(data) : request.data_end] == data
    assert request.user_end - len(user) <= request.data_end <= request.user_end or not data


def names_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


@given(bodies)
def test_usual_requests_are_read_alike(body: bytes) -> None:
    check(body)


@given(json_values)
def test_any_json_is_read_alike(body: bytes) -> None:
    check(body)


@given(bodies | json_values, st.data())
def test_damaged_requests_are_read_alike(body: bytes, data: st.DataObject) -> None:
    """
    Cut, with bytes changed, put in and taken out: what is malformed is so either way.
    """
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        removed = data.draw(st.integers(0, 2))
        added = data.draw(
            st.binary(max_size=2) | st.sampled_from([b"\\", b'"', b"\\u12", b"\x00", b"\xc3", b"{"])
        )
        body = body[:at] + added + body[at + removed :]
    check(body)


@given(st.text(max_size=80), st.integers(0, 40), st.booleans())
def test_strings_of_every_length_and_alignment_are_read_alike(
    text: str, before: int, is_ascii: bool
) -> None:
    """
    They are looked at sixteen bytes at a time, and one at a time at the body's end.
    """
    value = json.dumps(text, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    check(b'{"id":"1","x":"%b","user":{"yob":1,"keywords":%b}}' % (b"x" * before, value))
    check(b'{"id":%b}' % value)


TWICE = {
    "regs": b'{"id":"1","regs":{"coppa":1},"regs":{}}',
    "regs, then PHP's": b'{"id":"1","regs":{"coppa":1},"regs":[]}',
    "coppa": b'{"id":"1","regs":{"coppa":1,"coppa":0}}',
    "gpp_sid": b'{"id":"1","regs":{"gpp_sid":[7],"gpp_sid":[]}}',
    "regs.ext": b'{"id":"1","regs":{"ext":{"gpc":"1"},"ext":{}}}',
    "gpc": b'{"id":"1","regs":{"ext":{"gpc":"1","gpc":"0"}}}',
    "device": b'{"id":"1","device":{"lmt":1},"device":{}}',
    "device, then null": b'{"id":"1","device":{"lmt":1},"device":null}',
    "lmt": b'{"id":"1","device":{"lmt":1,"lmt":0}}',
    "ifa": b'{"id":"1","device":{"ifa":"x","ifa":"y"}}',
    "atts": b'{"id":"1","device":{"ext":{"atts":2,"atts":3}}}',
    "device.ext": b'{"id":"1","device":{"ext":{"atts":2},"ext":{}}}',
    "user": b'{"id":"1","user":{"eids":[{"source":"a","uids":[{"id":"1"}]}]},"user":{}}',
    "consent": b'{"id":"1","user":{"consent":"x","consent":"y"}}',
    "user.ext": b'{"id":"1","user":{"ext":{"consent":"x"},"ext":{}}}',
    "consent in ext": b'{"id":"1","user":{"ext":{"consent":"x","consent":"y"}}}',
    "eids": b'{"id":"1","user":{"eids":[{"source":"a","uids":[{"id":"1"}]}],"eids":[]}}',
    "source": b'{"id":"1","user":{"eids":[{"source":"a","source":"b","uids":[{"id":"1"}]}]}}',
    "uids": b'{"id":"1","user":{"eids":[{"source":"a","uids":[{"id":"1"}],"uids":[]}]}}',
    "id": b'{"id":"1","user":{"eids":[{"source":"a","uids":[{"id":"1","id":"2"}]}]}}',
    "stype": b'{"id":"1","user":{"eids":[{"source":"a","uids":[{"id":"1","ext":{"stype":"hemmd5",'
    b'"stype":1}}]}]}}',
}
"""What stands twice of the members that we read."""


def with_eids(eids: bytes) -> bytes:
    return b'{"id":"1","user":{"eids":[%b]}}' % eids


SAMPLES = sorted(Path(__file__).parents[1].joinpath("samples").glob("*.json"))


@pytest.mark.parametrize("path", SAMPLES, ids=[path.stem for path in SAMPLES])
def test_samples_are_plain(path: Path) -> None:
    body = path.read_bytes()

    request = _scanning(body)

    assert request.is_scanned
    check(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(bid_request(), id="usual"),
        pytest.param('{"id":"1","x":"é💥"}'.encode(), id="not ASCII"),
        pytest.param(rb'{"id":"1","x":"\u00e9\/\n\"\\"}', id="escapes in a value"),
        pytest.param(rb'{"id":"1","x":"\ud83d\ude00"}', id="surrogates"),
        pytest.param(rb'{"id":"1","x":"\ud83d","user":{"keywords":"\uDC00"}}', id="lone ones"),
        pytest.param(b'\xef\xbb\xbf{"id":"1","user":{"data":[]}}', id="a byte order mark"),
        pytest.param(b' \r\n\t{ "id" : "1" , "tmax" : 120 } \n', id="white space"),
        pytest.param(b'{"id":"1","x":[-0.10e+5,0,1E9,true,false,null,[],{}]}', id="every type"),
        pytest.param(b'{"id":"1","x":' + b"[" * 60 + b"]" * 60 + b"}", id="deep"),
        pytest.param(b'{"id":"1","x":"hashes"}', id="a forbidden name as a value"),
        pytest.param(b'{"id":"1","imp":[],"imp":[]}', id="a member twice that nobody reads"),
        pytest.param(b'{"id":"1","user":{"consent":"x","ext":{"consent":1}}}', id="consent"),
        pytest.param(b'{"id":"1","user":{"eids":[]}}', id="no eids"),
        pytest.param(with_eids(b'{"source":"a","uids":[{"id":"1"},{"id":"2"}]}'), id="eids"),
        pytest.param(
            b'{"id":"1","user":{"eids":[],"ext":{"eids":[{"source":"a","uids":[{"id":"1"}]}]}}}',
            id="eids where OpenRTB 2.5 has them",
        ),
        pytest.param(
            b'{"id":"1","user":{"eids":[{}],"ext":{"eids":[{"source":"a","uids":[{"id":"1"}]}]}}}',
            id="eids in both places",
        ),
        pytest.param(with_eids(b'null,{"source":1,"uids":{}},[],{}'), id="odd eids"),
        pytest.param(with_eids(b'{"source":"a","uids":[{"id":1},{},null]}'), id="odd uids"),
        pytest.param(with_eids(rb'{"source":"\u0061","uids":[{"id":"\n"}]}'), id="escaped eids"),
        pytest.param(with_eids('{"source":"é","uids":[{"id":"ü"}]}'.encode()), id="eids in UTF-8"),
        pytest.param(
            with_eids(b'{"source":"a","uids":[{"id":"1","ext":{"stype":"hemmd5"}}]}'), id="uid.ext"
        ),
        pytest.param(
            with_eids(b' { "uids" : [ { "atype" : 3 , "id" : "1" } ] , "source" : "a" } '),
            id="white space in eids",
        ),
        pytest.param(b'{"id":"1","device":{"lmt":0,"dnt":0}}', id="a silent device"),
        pytest.param(b'{"id":"1","device":{"lmt":false,"dnt":-0}}', id="a device that says no"),
        pytest.param(b'{"id":"1","device":{"ext":{"atts":3}}}', id="a device that is tracked"),
        pytest.param(b'{"id":"1","device":{"lmt":0,"ext":{"atts":2}}}', id="one that is not"),
        pytest.param(b'{"id":"1","device":{"ext":{"atts":33,"x":{"atts":1}}}}', id="odd atts"),
        pytest.param(b'{"id":"1","regs":{"ext":{"coppa":1},"coppa":0}}', id="coppa in ext"),
        pytest.param(
            b'{"id":"1","regs":[],"device":[ ],"user":{"ext":[\n],"yob":1}}', id="PHP's objects"
        ),
        pytest.param(b'{"id":"1","regs":{"ext":[]},"device":{"ext":[]}}', id="PHP's ext"),
        pytest.param(b'{"id":"1","regs":null,"device":null,"user":{"ext":null}}', id="null"),
        pytest.param(b'{"id":"1","device":{"ext":null},"regs":{"ext":null}}', id="ext null"),
        pytest.param(b'{"id":"1","device":{"lmt":0,"ifa":"x"}}', id="a device that has a name"),
    ],
)
def test_plain_request_is_scanned(body: bytes) -> None:
    assert _scanning(body).is_scanned
    check(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"id":"1","user":{"ext":{"hashes":{}}}}', id="what may not leave"),
        pytest.param(b'{"id":"1","x":[{"hashes":1}]}', id="its name elsewhere"),
        pytest.param(rb'{"id":"1","\u0068ashes":1}', id="an escaped name"),
        pytest.param('{"id":"1","né":1}'.encode(), id="a name that is not ASCII"),
        pytest.param(b'{"id":"1","user":{},"user":{}}', id="two users"),
        pytest.param(b'{"id":"1","user":{"data":[],"data":[]}}', id="two arrays of data"),
        pytest.param(b'{"id":"1","user":{"data":null}}', id="no array"),
        pytest.param(b'{"id":"1","user":null}', id="no user"),
        pytest.param(b'{"id":"1","user":{"eids":{}}}', id="no array of eids"),
        pytest.param(b'{"id":"1","user":{"ext":{"eids":[],"eids":[]}}}', id="eids twice"),
        pytest.param(b'{"id":"1","device":[1]}', id="an odd device"),
        pytest.param(b'{"id":"1","device":{"ext":"x"}}', id="an odd ext"),
        pytest.param(b'{"id":"1","regs":""}', id="odd regs"),
        pytest.param(b'{"id":"1","regs":{"ext":[[]]}}', id="odd regs.ext"),
        pytest.param(b'{"id":"1","user":[]}', id="PHP's user"),
        *(pytest.param(body, id=f"twice: {name}") for name, body in TWICE.items()),
        pytest.param(b'{"id":"1","tmax":120.5}', id="an odd tmax"),
        pytest.param(b'{"id":"1","tmax":1e400}', id="a tmax that no double holds"),
        pytest.param(b'{"id":"1","device":{"lmt":1e999}}', id="a setting that no double holds"),
        pytest.param(rb'{"id":"1","user":{"consent":"\ud83d"}}', id="a lone surrogate, read"),
        pytest.param(b'{"id":"1","tmax":1234567890}', id="a long tmax"),
        pytest.param(b'{"id":"1","x":' + b"[" * 80 + b"]" * 80 + b"}", id="deeper"),
    ],
)
def test_request_that_is_not_plain_is_decoded_as_a_whole(body: bytes) -> None:
    assert not _scanning(body).is_scanned
    check(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"x":1}', id="no id"),
        pytest.param(b'{"id":"1"}x', id="something behind"),
        pytest.param(b'{"id":"1",}', id="a comma too many"),
        pytest.param(b'{"id":"1" "x":1}', id="a comma too few"),
        pytest.param(b'{"id":01}', id="a leading zero"),
        pytest.param(b'{"id":1.}', id="no fraction"),
        pytest.param(b'{"id":-}', id="no digits"),
        pytest.param(b'{"id":1e}', id="no exponent"),
        pytest.param(b'{"id":tru}', id="half a word"),
        pytest.param(b'{"id":"1', id="a string without an end"),
        pytest.param(b'{"id":"1","x":"' + b"x" * 40, id="a long one without an end"),
        pytest.param(b'{"id":"1","x":"' + b"x" * 40 + b'\n"}', id="a control character"),
        pytest.param(b'{"id":"\\', id="half an escape"),
        pytest.param(b'{"id":"\\u12', id="half a code"),
        pytest.param(b'{"id":"\\x"}', id="no escape"),
        pytest.param(b'{"id":"1","x":"\xff"}', id="not UTF-8"),
        pytest.param(b"\xef\xbb\xbf", id="a byte order mark alone"),
        pytest.param(b'\xef\xbb{"id":"1"}', id="half of one"),
        pytest.param(b'{"id":"1"', id="no end"),
        pytest.param(b'{"id":"1","x":[1', id="no end of a list"),
        pytest.param(b'{"id"', id="no value"),
    ],
)
def test_what_is_malformed_is_so_for_the_same_reason(body: bytes) -> None:
    assert isinstance(read(_scanning, body), Reason)
    check(body)


@pytest.mark.parametrize("body", TWICE.values(), ids=TWICE)
def test_what_stands_twice_is_read_in_every_copy(body: bytes) -> None:
    assert _scanning(body).copies is not None
    assert _whole(body).copies is not None
    assert _scanning._scan is not None
    assert _scanning._scan(body) is None


def test_configured_member_is_read_in_every_copy_within_it() -> None:
    decoder = Decoder(["user.ext.hashes.email"])
    body = b'{"id":"1","user":{"ext":{"hashes":{"email":"x","email":"y"}}}}'

    assert decoder._scan is not None
    assert decoder._scan(body) is None
    assert decoder(body).copies is not None


def test_what_may_not_leave_is_known_to_stand_there_once() -> None:
    """
    So a body with hashed addresses in it is not gone over a third time.
    """
    assert _scanning._scan is not None
    assert _scanning._scan(b'{"id":"1","user":{"ext":{"hashes":{}}}}') is False
    assert _scanning._scan(b'{"id":"1","hashes":1,"regs":{},"regs":{}}') is None


def test_members_of_an_eid_are_minded_up_to_a_number() -> None:
    many = b",".join(b'"x%d":1' % n for n in range(17))

    assert _scanning._scan is not None
    assert _scanning._scan(with_eids(b"{%b}" % many)) is None
    check(with_eids(b'{"source":"a","uids":[{"id":"1"}],%b}' % many))


def test_forbidden_names_that_could_be_spelled_otherwise_are_not_scanned_for() -> None:
    assert Decoder((), ("user.ext.a/b",))._scan is None
    assert Decoder(("other",), ())._scan is None
    assert Decoder((), tuple(f"user.x{n}" for n in range(17)))._scan is None


def test_plain_uids_are_read_without_decoding_the_user() -> None:
    body = with_eids(b'{"source":"A","uids":[{"id":"1"},{"id":"2"}]},{"source":"b","uids":[]}')

    assert _scanning._scan is not None
    scanned = _scanning._scan(body)

    assert scanned
    assert scanned[0] == [("A", "1", None), ("A", "2", None)]


@pytest.mark.parametrize(
    ("ext", "read"),
    [
        (b'{"rtiPartner":"TDID"}', None),
        (b'{"stype":null}', None),
        (b"[]", None),
        (b'"hemmd5"', None),
        (b'{"stype":"hemmd5"}', {"stype": "hemmd5", "provider": None}),
        (
            b'{"x":{"stype":1},"provider" : "liveintent.com" }',
            {"stype": None, "provider": "liveintent.com"},
        ),
        (b'{"stype":"a","provider":"b"}', {"stype": "a", "provider": "b"}),
        (b'{"stype":1,"provider":null}', {"stype": 1, "provider": None}),
        ('{"stype":"é"}'.encode(), {"stype": "é", "provider": None}),
    ],
)
def test_ext_of_a_uid_is_read_only_where_a_rule_may_ask_for_it(ext: bytes, read: Any) -> None:
    body = with_eids(b'{"source":"a","uids":[{"id":"1","ext":%b}]}' % ext)

    assert plain(_scanning(body).uids) == [["a", "1", read]]
    assert _scanning(body).is_scanned
    check(body)


def test_of_user_and_device_only_members_that_tell_are_decoded() -> None:
    body = (
        b'{"id":"1","user":{"yob":1,"consent" : "x","eids":[],"ext":{"a":1,"consent":""}},'
        b'"device":{"ua":"z","lmt":0,"ifa":"y","ext":{"b":[],"atts":3}}}'
    )

    assert _scanning._scan is not None
    scanned = _scanning._scan(body)

    assert scanned
    assert json.loads(scanned[1]) == {"consent": "x", "ext": {"consent": ""}}
    assert json.loads(scanned[6]) == {"lmt": 0, "ifa": "y", "ext": {"atts": 3}}
    check(body)


@pytest.mark.parametrize(
    ("user", "telling"),
    [
        (b"{}", b""),
        (b'{"yob":1,"ext":{"a":1}}', b""),
        (b'{"consent":null}', b'{"consent":null}'),
        (b'{"ext":{"consent":["x"]},"yob":1}', b'{"ext":{"consent":["x"]}}'),
    ],
)
def test_members_that_tell_are_put_together_as_they_are(user: bytes, telling: bytes) -> None:
    body = b'{"id":"1","user":%b}' % user

    assert _scanning._scan is not None
    scanned = _scanning._scan(body)

    assert scanned
    assert scanned[1] == telling
    check(body)


def test_same_regs_are_decoded_once() -> None:
    first, second = (
        _scanning(b'{"id":"%d","regs":{"coppa":0,"ext":{"gdpr":0}}}' % n) for n in range(2)
    )

    assert first.regs is second.regs


def test_regs_with_a_consent_string_are_not_kept() -> None:
    gpp = b"x" * 128
    first, second = (_scanning(b'{"id":"%d","regs":{"gpp":"%b"}}' % (n, gpp)) for n in range(2))

    assert first.regs is not second.regs
    assert first.regs.gpp == (gpp.decode(),)


def test_no_more_regs_are_kept_than_there_is_room_for() -> None:
    decoder = Decoder()
    for n in range(3_000):
        assert decoder(b'{"id":"1","regs":{"coppa":%d}}' % n).regs.coppa == (n,)

    assert len(decoder._raw_to_regs) <= MOST_KEPT_LAWS + 1
