"""A bug is told by its type and place; its message may hold a person."""

import json

import pytest

from segments.runtime.bug_place import bug_place
from segments.runtime.pauses import Backoff

PERSON = "alice@example.com"


def test_message_is_never_part_of_it() -> None:
    with pytest.raises(KeyError) as caught:
        _look_up(PERSON)

    said = bug_place(caught.value)

    assert said.startswith("KeyError at ")
    assert PERSON not in said


def test_place_is_our_last_frame_where_a_library_raises() -> None:
    """
    The last frame of all is the library's, and says nothing of which call of ours was wrong.
    """
    with pytest.raises(TypeError) as caught:
        Backoff("x", 1.0).after(1)  # type: ignore[arg-type] # the bug

    line = bug_place(caught.value).rpartition(":")

    assert line[0] == "TypeError at segments.runtime.pauses:after"
    assert line[2].isdigit()


def test_place_of_what_was_raised_outside_of_our_code_is_that_of_its_last_frame() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")

    assert bug_place(caught.value).startswith("JSONDecodeError at json.decoder:")


def test_error_that_was_never_raised_has_no_place() -> None:
    assert bug_place(ValueError(PERSON)) == "ValueError at ?"


def _look_up(person: str) -> object:
    names: dict[str, object] = {}
    return names[person]
