import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtb.openrtb.decode import Decoder
from rtb.openrtb.strip import Strip
from rtb.outcome import MalformedRequest, Reason


def _stripped(body: bytes, *paths: str) -> tuple[bytes, tuple[str, ...]]:
    decoder = Decoder(strip_paths=paths)
    request, stripped = Strip(decoder)(decoder(body))
    return request.body, stripped


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            b'{"id":"1", "user":{"ext":{"hashes":{"email":"e"}},"yob": 1.0}}',
            b'{"id":"1", "user":{"ext":{},"yob": 1.0}}',
            id="alone in ext",
        ),
        pytest.param(
            b'{"id":"1","user":{"ext":{"a":1,"hashes":"odd","b":2}},"user2":{}}',
            b'{"id":"1","user":{"ext":{"a":1,"b":2}},"user2":{}}',
            id="of an odd type",
        ),
        pytest.param(
            rb'{"id":"1","x":"\ud83d", "user":{"ext":{"a":"\ud83d","hashes":1},"b":1e9}}',
            rb'{"id":"1","x":"\ud83d", "user":{"ext":{"a":"\ud83d"},"b":1e9}}',
            id="beside half an emoji",
        ),
        pytest.param(
            b'\xef\xbb\xbf{"id":"1","user":{"ext":{"hashes":1}}}',
            b'\xef\xbb\xbf{"id":"1","user":{"ext":{}}}',
            id="behind a byte order mark",
        ),
        pytest.param(
            rb'{"id":"1","\u0075ser":{"ext":{"\u0068ashes":[1]}}}',
            rb'{"id":"1","\u0075ser":{"ext":{}}}',
            id="with its names escaped",
        ),
    ],
)
def test_configured_path_is_taken_out(body: bytes, expected: bytes) -> None:
    assert _stripped(body, "user.ext.hashes") == (expected, ("user.ext.hashes",))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"id":"1"}', id="no user"),
        pytest.param(b'{"id":"1","ext":{"hashes":1},"user":{"hashes":1}}', id="elsewhere"),
        pytest.param(b'{"id":"1","user":[],"imp":[]}', id="odd user"),
    ],
)
def test_nothing_to_strip_is_the_body_itself(body: bytes) -> None:
    assert _stripped(body, "user.ext.hashes")[0] is body


def test_path_that_ends_early_strips_nothing() -> None:
    body = b'{"id":"1","user":{"ext":{"hashes":{"phone":1}}},"site":{}}'

    assert _stripped(body, "user.ext.hashes.email", "site.ext.x") == (body, ())


def test_several_paths_are_stripped_in_and_out_of_the_user() -> None:
    body = (
        b'{"id":"1","user":{"yob":1984,"data":[{}]},"device":{"ifa":"i","ip":"1"},"site":{"k":1}}'
    )

    assert _stripped(body, "user.data", "device.ip", "site.k", "user.yob", "ext.none") == (
        b'{"id":"1","user":{},"device":{"ifa":"i"},"site":{}}',
        ("user.data", "device.ip", "site.k", "user.yob"),
    )


def test_whole_user_can_be_stripped() -> None:
    assert _stripped(b'{"id":"1","user":{"yob":1984}}', "user") == (b'{"id":"1"}', ("user",))


_SECRET = "5a105e8b9d40e1329780d62ea2265d8a"
_HASHES = f'{{"ext":{{"hashes":{{"email":"{_SECRET}"}}}}}}'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(f'{{"id":"1","user":{_HASHES},"user":{{"yob":1}}}}', id="in an earlier user"),
        pytest.param(f'{{"id":"1","user":{_HASHES},"user":null}}', id="before a user of null"),
        pytest.param(
            f'{{"id":"1","user":{{"yob":1,"ext":{_HASHES[7:-1]}}},"user":{_HASHES}}}', id="in both"
        ),
        pytest.param(
            f'{{"id":"1","user":{{"ext":{_HASHES[7:-1]},"ext":{{}}}}}}', id="in an earlier ext"
        ),
        pytest.param(rf'{{"id":"1","\u0075ser":{_HASHES},"user":{{}}}}', id="user in escapes"),
        pytest.param(
            rf'{{"id":"1","user":{_HASHES},"user":{{}}}}'.replace("hashes", r"h\u0061shes"),
            id="hashes in escapes",
        ),
        pytest.param(f'{{"id":"1","user":[{_HASHES}]}}', id="in a list for a user"),
        pytest.param(f'{{"id":"1","user":{{"ext":[{_HASHES[7:-1]}]}}}}', id="in a list for ext"),
    ],
)
def test_what_cannot_be_taken_out_does_not_leave(body: str) -> None:
    with pytest.raises(MalformedRequest) as refused:
        _stripped(body.encode(), "user.ext.hashes")

    assert refused.value.reason is Reason.UNSTRIPPABLE
    assert _SECRET not in str(refused.value)
    assert refused.value.__context__ is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"id":"1","user":{"yob":1},"user":{}}', id="a user twice, nothing in it"),
        pytest.param(
            b'{"id":"1","user":{"ext":{"a":1,"a":2}},"site":{"ext":{"hashes":1}}}', id="elsewhere"
        ),
        pytest.param(rb'{"id":"1","site":{"page":"\u0068ttp:\/\/a?b\u0026hashes"}}', id="escapes"),
        pytest.param(b'{"id":"1","n":1' + b"0" * 5000 + b',"site":{"hashes":1e999}}', id="numbers"),
    ],
)
def test_request_that_hides_nothing_leaves_as_it_came(body: bytes) -> None:
    assert _stripped(body, "user.ext.hashes") == (body, ())


def test_several_members_of_the_last_name_all_go() -> None:
    body = b'{"id":"1","user":{"ext":{"hashes":1,"hashes":2,"b":3}}}'

    assert _stripped(body, "user.ext.hashes") == (
        b'{"id":"1","user":{"ext":{"b":3}}}',
        ("user.ext.hashes",),
    )


def _members(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["user", "ext", "hashes", "other"])
    # A tuple of pairs is an object here, in which a name may stand twice.
    objects = st.lists(st.tuples(names, values), max_size=4).map(tuple)
    return objects | st.lists(values, max_size=2)


@given(st.recursive(st.sampled_from([1, "hashes", None]), _members, max_leaves=12), st.booleans())
def test_nothing_that_a_path_leads_to_leaves_whatever_the_form(value: Any, is_last: bool) -> None:
    users = [("user", value), ("user", ())][: 1 if is_last else 2]
    body = _json((("id", "1"), *users)).encode()

    try:
        leaving, _ = _stripped(body, "user.ext.hashes")
    except MalformedRequest:
        return

    assert not _reads_hashes(json.loads(leaving, object_pairs_hook=tuple), "user", "ext", "hashes")


def _json(value: Any) -> str:
    if isinstance(value, tuple):
        members = (f"{json.dumps(name)}:{_json(inner)}" for name, inner in value)
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_json, value))}]"
    return json.dumps(value)


def _reads_hashes(value: Any, *names: str) -> bool:
    """Read as who takes any of equal names, and what a list holds for what should be there."""
    if isinstance(value, list):
        return any(_reads_hashes(each, *names) for each in value)
    if not names:
        return value is not None
    return isinstance(value, tuple) and any(
        name == names[0] and _reads_hashes(inner, *names[1:]) for name, inner in value
    )
