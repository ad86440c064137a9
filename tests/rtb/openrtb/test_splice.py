import json

from hypothesis import given
from hypothesis import strategies as st

from rtb.openrtb.splice import added, appended, placed, replaced, without
from tests.rtb.requests import json_values, members

_pairs = st.lists(
    st.tuples(st.sampled_from(["a", "b", "user", "é"]), json_values),
    min_size=1,
    unique_by=lambda pair: pair[0],
)


def _object(pairs: list[tuple[str, bytes]], space: bytes = b" ") -> bytes:
    inside = (b"," + space).join(json.dumps(name).encode() + b": " + v for name, v in pairs)
    return b"{" + space + inside + space + b"}"


@given(_pairs, st.data())
def test_replacing_one_member_leaves_the_bytes_of_all_others(
    pairs: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    obj = _object(pairs)
    name = data.draw(st.sampled_from([name for name, _ in pairs]))

    changed = replaced(obj, name, members(obj)[name], b'"new"')

    assert members(changed) == members(obj) | {name: b'"new"'}


def test_value_that_occurs_once_is_replaced_and_the_white_space_kept() -> None:
    obj = b'{ "a" : [1] ,\n "b":{"c": 1.10} }'

    assert replaced(obj, "b", b'{"c": 1.10}', b"0") == b'{ "a" : [1] ,\n "b":0 }'


def test_value_that_occurs_twice_is_replaced_where_the_name_is() -> None:
    assert replaced(b'{"a":{},"b": {}}', "b", b"{}", b"0") == b'{"a":{},"b":0}'


def test_of_two_members_of_one_name_the_later_is_the_one() -> None:
    assert replaced(b'{"a":"old","a":{}}', "a", b"{}", b"0") == b'{"a":"old","a":0}'


@given(_pairs)
def test_adding_a_member_leaves_the_bytes_before_it(pairs: list[tuple[str, bytes]]) -> None:
    obj = _object(pairs)

    changed = added(obj, "new", b"0")

    assert changed.startswith(obj[: obj.rindex(b"}")])
    assert members(changed) == members(obj) | {"new": b"0"}


def test_member_is_added_to_an_empty_object() -> None:
    assert added(b" { } ", "a", b"0") == b' { "a":0} '


def test_placing_replaces_what_is_there_and_adds_what_is_not() -> None:
    assert placed(b'{"a":1}', "a", b"1", b"2") == b'{"a":2}'
    assert placed(b'{"a":1}', "b", b"", b"2") == b'{"a":1,"b":2}'


@given(st.lists(json_values), st.lists(json_values, min_size=1))
def test_appending_leaves_the_bytes_of_the_array(old: list[bytes], new: list[bytes]) -> None:
    array = b"[" + b", ".join(old) + b" ]"

    changed = appended(array, new)

    assert changed.startswith(array[:-1])
    assert json.loads(changed) == json.loads(array) + [json.loads(value) for value in new]


def test_null_and_nothing_are_appended_to_as_to_an_empty_array() -> None:
    assert (
        appended(b"null", [b"1"]) == appended(b"", [b"1"]) == appended(b"[ ]", [b"1"])[:1] + b"1]"
    )


def test_member_at_a_path_is_taken_out() -> None:
    obj = b'{"x": 1.10, "user" :{"ext":{"hashes":{"email":"e"},"k":"\\u00e9"},"id":"1"}}'

    assert without(obj, ("user", "ext", "hashes")) == (
        b'{"x": 1.10, "user" :{"ext":{"k":"\\u00e9"},"id":"1"}}'
    )


def test_member_that_stands_twice_is_taken_out_twice() -> None:
    assert without(b'{"a":{"h":1,"b":2,"h":3}}', ("a", "h")) == b'{"a":{"b":2}}'


def test_path_that_leads_nowhere_changes_nothing() -> None:
    obj = b'{"a": [1], "b": {"c": null}}'

    for path in [("x",), ("a", "b"), ("b", "x"), ("b", "c", "d")]:
        assert without(obj, path) is obj
