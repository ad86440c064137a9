"""
The one-join insertion against the same done the long way: apart and together again.

`inject` finds the place of `user.data` by its first bytes and joins the body
anew around what it adds. Here every level is taken apart into members as raw
bytes and put together again, which finds nothing by its looks. What comes of
the two must be the same JSON, numbers and strings as they are spelled; and
where the insertion found its place, nothing else of the body may have moved.
"""

import json
from typing import Any

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from rtb.openrtb.additions import Additions, Offer, additions
from rtb.openrtb.decode import Decoder
from rtb.openrtb.inject import inject
from rtb.outcome import MalformedRequest
from tests.rtb.requests import bodies, json_values, members, user_data

OFFERS = [
    Offer(
        "shop",
        None,
        b'{"id":"shop","name":"Shop","segment":[',
        b"]}",
        {"101": b'{"id":"101"}', "102": b'{"id":"102"}'},
    ),
    Offer(
        "bank",
        501,
        b'{"id":"bank","segment":[',
        b'],"ext":{"segtax":501}}',
        {"201": b'{"id":"201"}'},
    ),
]

_decode = Decoder()
_elements = msgspec.json.Decoder(list[Raw] | None).decode
_encode = msgspec.json.Encoder().encode


def proposed(body: bytes) -> Additions | None:
    try:
        found = additions(_decode(body), OFFERS)
    except MalformedRequest:
        return None
    return found if isinstance(found, Additions) else None


def the_long_way(body: bytes, proposal: Additions) -> bytes:
    """Put the additions where they belong, level by level."""
    request = _raw_members(body)
    user = _raw_members(request["user"]) if _is_there(request, "user") else {}
    data = _elements(user["data"]) if _is_there(user, "data") else []
    assert data is not None
    for addition in proposal.each:
        if addition.at is None:
            data.append(Raw(addition.data))
            continue
        completed = _raw_members(data[addition.at])
        segments = _elements(completed.get("segment", Raw(b"null"))) or []
        completed["segment"] = Raw(_encode([*segments, *map(Raw, addition.segments)]))
        data[addition.at] = Raw(_encode(completed))
    user["data"] = Raw(_encode(data))
    request["user"] = Raw(_encode(user))
    return _encode(request)


def _raw_members(obj: bytes | Raw) -> dict[str, Raw]:
    return {name: Raw(value) for name, value in members(obj).items()}


def _is_there(obj: dict[str, Raw], name: str) -> bool:
    return bytes(obj.get(name, b"null")) != b"null"


def as_spelled(body: bytes) -> Any:
    """Read JSON with every number as its own text."""
    return json.loads(body, parse_float=str, parse_int=str, parse_constant=str)


def is_one_insertion(body: bytes, answer: bytes) -> bool:
    """Tell whether the answer is the body with something put in at one place."""
    added = len(answer) - len(body)
    return any(
        answer[:at] == body[:at] and answer[at + added :] == body[at:]
        for at in range(len(body) + 1)
    )


def check(body: bytes) -> None:
    proposal = proposed(body)
    if proposal is None:
        event("nothing is proposed")
        return

    answer = inject(body, proposal)

    assert as_spelled(answer) == as_spelled(the_long_way(body, proposal))
    is_all_new = all(addition.at is None for addition in proposal.each)
    user, data = proposal.user, proposal.user_data
    is_told_apart = body.count(user[:32]) == 1 and user.count(data[:32]) == 1
    event("one insertion" if is_all_new and is_told_apart else "apart and together")
    if is_all_new and data.startswith(b"[") and is_told_apart:
        assert is_one_insertion(body, answer)
    _check_rest(body, answer)


def _check_rest(body: bytes, answer: bytes) -> None:
    """What is not `user.data` leaves as the bytes that came."""
    sent, left = members(body), members(answer)
    sent_user, left_user = sent.pop("user", b"null"), left.pop("user")
    assert left == sent
    rest = members(left_user)
    del rest["data"]
    if sent_user != b"null":
        expected = members(sent_user)
        expected.pop("data", None)
        assert rest == expected


@given(bodies)
def test_one_join_says_the_same_as_the_long_way(body: bytes) -> None:
    check(body)


def _quoted(value: bytes) -> bytes:
    return json.dumps(value.decode(), ensure_ascii=False).encode()


@st.composite
def look_alikes(draw: st.DrawFn) -> bytes:
    """
    A request full of what looks like its `user` and its `user.data`.

    Copies, beginnings, things within things, the same text within a string; in
    front of the real one and behind it, and members that stand there twice.
    """
    data = draw(
        user_data
        | st.sampled_from(
            [b"[]", b"[ ]", b"[[]]", b"[[[[]]]]", b'[""]', b"[1,1,1]", b'[{"id":"7"}]']
        )
    )
    of_data = st.sampled_from(
        [data, b"[%b]" % data, b'{"data":%b}' % data, _quoted(data), b'"["', b"[]", b"[[]]"]
    )
    names = [b'"data2"', b'"ext"', b'"data"', rb'"\u0064ata"', b'"keywords"']

    def around(value: bytes, name: bytes, decoys: st.SearchStrategy[bytes]) -> bytes:
        members_ = st.lists(st.tuples(st.sampled_from(names), decoys), max_size=3)
        before = draw(members_)
        # Of two members of one name the later counts, so the real one is the last of its name.
        after = [pair for pair in draw(members_) if json.loads(pair[0]) != json.loads(name)]
        space = draw(st.sampled_from([b"", b" ", b"\n"]))
        pairs = [*before, (name, value), *after]
        return b"{%b}" % (b"," + space).join(n + b":" + space + v for n, v in pairs)

    user = around(data, b'"data"', of_data | json_values)
    names = [b'"user2"', b'"x"', b'"user"', rb'"\u0075ser"', b'"ext"']
    of_user = st.sampled_from(
        [user, b"[%b]" % user, b'{"user":%b}' % user, _quoted(user), data, b"{}", user[:-1] + b"}"]
    )
    body = around(user, b'"user"', of_user | of_data)
    return b'{"id":"r1",' + body[1:]


@settings(max_examples=300)
@given(look_alikes())
def test_what_looks_like_the_place_is_not_taken_for_it(body: bytes) -> None:
    check(body)
