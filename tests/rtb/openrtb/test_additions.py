"""The three answer forms, by what they make of the same additions."""

import json
from typing import Any

import pytest
from hypothesis import given

from rtb.openrtb.additions import Additions, Offer, additions
from rtb.openrtb.decode import Decoder
from rtb.openrtb.fragment import fragment
from rtb.openrtb.inject import inject
from rtb.openrtb.patch import patch
from rtb.outcome import Reason
from tests.rtb.requests import bodies, members

_decode = Decoder()

SHOP = Offer(
    "shop",
    None,
    b'{"id":"shop","name":"Shop","segment":[',
    b"]}",
    {"101": b'{"id":"101"}', "102": b'{"id":"102"}'},
)
BANK = Offer(
    "bank",
    501,
    b'{"id":"bank","name":"Bank","segment":[',
    b'],"ext":{"segtax":501}}',
    {"201": b'{"id":"201"}'},
)
SHOP_DATA = {"id": "shop", "name": "Shop", "segment": [{"id": "101"}, {"id": "102"}]}
BANK_DATA = {
    "id": "bank",
    "name": "Bank",
    "segment": [{"id": "201"}],
    "ext": {"segtax": 501},
}


def _proposed(body: bytes) -> Additions:
    proposed = additions(_decode(body), [SHOP, BANK])
    assert isinstance(proposed, Additions)
    return proposed


def _injected(body: bytes) -> Any:
    return json.loads(inject(body, _proposed(body)))


def _with_user_data(user_data: Any) -> bytes:
    return json.dumps({"id": "1", "user": {"data": user_data, "yob": 1984}, "x": {}}).encode()


def _patched(body: bytes, operations: bytes) -> Any:
    """Apply a JSON Patch as its host would (RFC 6902, 4.1 and 4.2)."""
    document = json.loads(body)
    for operation in json.loads(operations):
        *path, last = operation["path"].split("/")[1:]
        target = document
        for name in path:
            target = target[int(name)] if isinstance(target, list) else target[name]
        if operation["op"] == "remove":
            del target[last]
        elif isinstance(target, list):
            assert last == "-"
            target.append(operation["value"])
        else:
            target[last] = operation["value"]
    return document


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            b'{"id":"1"}', b'{"id":"1","user":{"data":[@]}}', id="a request without a user"
        ),
        pytest.param(
            b'{"id":"1" }\n', b'{"id":"1" ,"user":{"data":[@]}}\n', id="white space at its end"
        ),
        pytest.param(
            b'{"x":null,"id":"1","user":null}',
            b'{"x":null,"id":"1","user":{"data":[@]}}',
            id="a user of null",
        ),
        pytest.param(
            b'{"id":"1","user":{},"imp":[{"banner":{}}]}',
            b'{"id":"1","user":{"data":[@]},"imp":[{"banner":{}}]}',
            id="an empty user",
        ),
        pytest.param(
            b'{"id":"1", "user":{"yob": 1984 }}',
            b'{"id":"1", "user":{"yob": 1984 ,"data":[@]}}',
            id="a user without data",
        ),
        pytest.param(
            b'{"id":"1","user":{"data":null}}',
            b'{"id":"1","user":{"data":[@]}}',
            id="data of null",
        ),
        pytest.param(
            b'{"id":"1","user":{"data": [ ]}}',
            b'{"id":"1","user":{"data": [ @]}}',
            id="empty data",
        ),
        pytest.param(
            b'{"id":"1","user":{"data":[ {"id":"77","v":1.10}, 5 ]}}',
            b'{"id":"1","user":{"data":[ {"id":"77","v":1.10}, 5 ,@]}}',
            id="other providers' data, and garbage",
        ),
    ],
)
def test_ours_goes_behind_what_is_there(body: bytes, expected: bytes) -> None:
    ours = b",".join(
        json.dumps(data, separators=(",", ":")).encode() for data in (SHOP_DATA, BANK_DATA)
    )

    assert inject(body, _proposed(body)) == expected.replace(b"@", ours)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        pytest.param(
            [{"id": "shop", "name": "theirs", "segment": [{"id": "9", "value": "v"}], "k": 1}],
            [
                {
                    "id": "shop",
                    "name": "theirs",
                    "segment": [{"id": "9", "value": "v"}, {"id": "101"}, {"id": "102"}],
                    "k": 1,
                },
                BANK_DATA,
            ],
            id="appended to the Data of our id",
        ),
        pytest.param(
            [{"id": "shop", "segment": [{"id": "102"}, {"id": 1.01}, 5]}],
            [{"id": "shop", "segment": [{"id": "102"}, {"id": 1.01}, 5, {"id": "101"}]}, BANK_DATA],
            id="only what it lacks, whatever else is in it",
        ),
        pytest.param(
            [{"id": "shop", "segment": [{"id": "101"}, {"id": "102"}]}],
            [{"id": "shop", "segment": [{"id": "101"}, {"id": "102"}]}, BANK_DATA],
            id="nothing to what has it all",
        ),
        pytest.param(
            [{"id": "shop", "segment": []}, {"id": "shop", "segment": [{"id": "101"}]}],
            [
                {"id": "shop", "segment": [{"id": "102"}]},
                {"id": "shop", "segment": [{"id": "101"}]},
                BANK_DATA,
            ],
            id="to the first of two, what neither has",
        ),
        pytest.param(
            [{"id": "shop"}, {"id": "bank", "segment": None, "ext": {"segtax": 501}}],
            [
                {"id": "shop", "segment": [{"id": "101"}, {"id": "102"}]},
                {"id": "bank", "segment": [{"id": "201"}], "ext": {"segtax": 501}},
            ],
            id="into one without segments",
        ),
        pytest.param(
            [{"id": "shop", "segment": {"id": "101"}}],
            [{"id": "shop", "segment": {"id": "101"}}, SHOP_DATA, BANK_DATA],
            id="beside one whose segment is no array",
        ),
        pytest.param(
            [{"name": "shop"}, {"id": 5}, None, "shop", ["shop"]],
            [{"name": "shop"}, {"id": 5}, None, "shop", ["shop"], SHOP_DATA, BANK_DATA],
            id="beside what has not our id",
        ),
    ],
)
def test_data_of_our_id_is_kept_and_completed(present: Any, expected: Any) -> None:
    body = _with_user_data(present)

    assert _injected(body) == {"id": "1", "user": {"data": expected, "yob": 1984}, "x": {}}
    assert _patched(body, patch(_proposed(body), ())) == _injected(body)


def test_nothing_is_proposed_where_all_is_there() -> None:
    body = _with_user_data([SHOP_DATA, BANK_DATA])

    assert additions(_decode(body), [SHOP, BANK]) is Reason.ALREADY_THERE


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"id":"1","user":{"data":{}}}', id="data is an object"),
        pytest.param(b'{"id":"1","user":{"data":"x"}}', id="data is text"),
    ],
)
def test_nothing_is_proposed_where_there_is_no_place(body: bytes) -> None:
    assert additions(_decode(body), [SHOP]) is Reason.UNPLACEABLE


@pytest.mark.parametrize(
    "ext",
    [
        pytest.param({"segtax": 4}, id="another taxonomy"),
        pytest.param({"segtax": 501}, id="the bank's taxonomy"),
        pytest.param({"segtax": "x"}, id="a taxonomy that is text"),
    ],
)
def test_data_of_another_taxonomy_is_not_ours(ext: Any) -> None:
    """
    Neither appended to, nor taken for being there already: its segments' ids mean other things.
    """
    theirs = {"id": "shop", "ext": ext, "segment": [{"id": "101"}, {"id": "102"}]}
    plain = {"id": "bank", "segment": [{"id": "201"}]}

    assert _injected(_with_user_data([theirs, plain]))["user"]["data"] == [
        theirs,
        plain,
        SHOP_DATA,
        BANK_DATA,
    ]


@pytest.mark.parametrize("ext", [{}, [], None, {"segtax": None}, "x"])
def test_data_without_a_taxonomy_is_ours_if_ours_has_none(ext: Any) -> None:
    theirs = {"id": "shop", "ext": ext, "segment": [{"id": "101"}, {"id": "102"}]}

    assert additions(_decode(_with_user_data([theirs])), [SHOP]) is Reason.ALREADY_THERE


def test_data_of_our_taxonomy_is_completed_among_several_of_our_id() -> None:
    other = {"id": "bank", "ext": {"segtax": 4}, "segment": [{"id": "9"}]}
    ours = {"id": "bank", "ext": {"segtax": 501, "x": 1}, "segment": []}

    data = _injected(_with_user_data([other, ours, SHOP_DATA]))["user"]["data"]

    assert data == [other, {**ours, "segment": [{"id": "201"}]}, SHOP_DATA]


def test_ids_that_are_written_as_integers_count_as_their_digits() -> None:
    numbered = Offer("77", None, b'{"id":"77","segment":[', b"]}", {"101": b'{"id":"101"}'})
    there = _decode(_with_user_data([{"id": 77, "segment": [{"id": 101}]}]))
    lacking = _decode(_with_user_data([{"id": 77, "segment": [{"id": True}, {"id": 10**300}]}]))

    proposed = additions(lacking, [numbered])

    assert additions(there, [numbered]) is Reason.ALREADY_THERE
    assert isinstance(proposed, Additions)
    assert proposed.each[0].at == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            rb'[{"id":"shop","name":"\ud83d","segment":[{"id":"101","name":"\ud83d"}]}]',
            rb'[{"id":"shop","name":"\ud83d","segment":[{"id":"101","name":"\ud83d"},{"id":"102"}]}]',
            id="half an emoji",
        ),
        pytest.param(
            b'[{"id":1e400},{"id":"shop","segment":[{"id":1e400},{"id":"101"}],"v":1e400}]',
            b'[{"id":1e400},{"id":"shop","segment":[{"id":1e400},{"id":"101"},{"id":"102"}],'
            b'"v":1e400}]',
            id="a number that no double holds",
        ),
    ],
)
def test_data_that_msgspec_can_not_read_is_completed(before: bytes, after: bytes) -> None:
    body = b'{"id":"1","user":{"data":%b}}'

    proposed = additions(_decode(body % before), [SHOP])

    assert isinstance(proposed, Additions)
    assert inject(body % before, proposed) == body % after


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            rb'{"id":"1","app":{"name":"Puzzle \ud83d"},"user":{"yob":1}}',
            rb'{"id":"1","app":{"name":"Puzzle \ud83d"},"user":{"yob":1,"data":[@]}}',
            id="half an emoji",
        ),
        pytest.param(
            rb'{"id":"\ud83d","user":null,"x":{"a":null}}',
            rb'{"id":"\ud83d","user":{"data":[@]},"x":{"a":null}}',
            id="and no user",
        ),
        pytest.param(
            b'\xef\xbb\xbf {"id":"1","tmax":1e400}',
            b'\xef\xbb\xbf {"id":"1","tmax":1e400,"user":{"data":[@]}}',
            id="a byte order mark",
        ),
    ],
)
def test_what_msgspec_can_not_read_leaves_as_it_came_but_for_our_data(
    body: bytes, expected: bytes
) -> None:
    proposed = additions(_decode(body), [SHOP])

    assert isinstance(proposed, Additions)
    ours = json.dumps(SHOP_DATA, separators=(",", ":")).encode()
    assert inject(body, proposed) == expected.replace(b"@", ours)
    assert json.loads(fragment(proposed))["user"]["data"] == [SHOP_DATA]


@given(bodies)
def test_what_is_not_user_data_leaves_byte_for_byte(body: bytes) -> None:
    proposed = additions(_decode(body), [SHOP, BANK])
    if isinstance(proposed, Reason):
        return

    answer = members(inject(body, proposed))

    sent = members(body)
    user, sent_user = members(answer.pop("user")), members(sent.pop("user"))
    user.pop("data")
    sent_user.pop("data", None)
    assert (answer, user) == (sent, sent_user)


@given(bodies)
def test_all_forms_agree_and_a_second_pass_adds_nothing(body: bytes) -> None:
    proposed = additions(_decode(body), [SHOP, BANK])
    if isinstance(proposed, Reason):
        return

    answer = inject(body, proposed)

    assert _patched(body, patch(proposed, ())) == json.loads(answer)
    assert additions(_decode(answer), [SHOP, BANK]) is Reason.ALREADY_THERE
    new = json.loads(fragment(proposed))["user"]["data"]
    shown = {segment["id"] for data in new for segment in data["segment"]}
    assert shown <= {"101", "102", "201"}


def test_fragment_is_only_the_id_and_what_is_new() -> None:
    body = b'{"id": 1.10,"user":{"yob":1984,"data":[{"id":"shop","segment":[{"id":"101"}]}]}}'

    assert fragment(_proposed(body)) == (
        b'{"id":1.10,"user":{"data":[{"id":"shop","name":"Shop","segment":[{"id":"102"}]},'
        b'{"id":"bank","name":"Bank","segment":[{"id":"201"}],"ext":{"segtax":501}}]}}'
    )


def test_patch_removes_what_the_host_still_has() -> None:
    assert patch(None, ("user.ext.hashes", "user.ext.a/b~c")) == (
        b'[{"op":"remove","path":"/user/ext/hashes"},{"op":"remove","path":"/user/ext/a~1b~0c"}]'
    )


def test_patch_of_nothing_is_nothing() -> None:
    assert patch(None, ()) == b""


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param(b'{"id":"1"}', "/user", id="no user"),
        pytest.param(b'{"id":"1","user":null}', "/user", id="user null"),
        pytest.param(b'{"id":"1","user":{}}', "/user/data", id="no data"),
        pytest.param(b'{"id":"1","user":{"data":null}}', "/user/data", id="data null"),
        pytest.param(b'{"id":"1","user":{"data":[]}}', "/user/data/-", id="data"),
    ],
)
def test_patch_adds_where_there_is_something_to_add_to(body: bytes, path: str) -> None:
    operations = patch(_proposed(body), ())

    assert {operation["path"] for operation in json.loads(operations)} == {path}
    assert _patched(body, operations) == _injected(body)
