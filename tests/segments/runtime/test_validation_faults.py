"""What is said of a fault is a sentence of ours, at a place that is in what was sent."""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from segments.runtime.json_values import WholeNumber, WrittenAs
from segments.runtime.validation_faults import json_faults


class Inner(BaseModel):
    """A form that is nested."""

    path: str


class Outer(BaseModel):
    """The same, nested once more."""

    params: Inner


class Dog(BaseModel):
    """One kind of two."""

    kind: Literal["dog"]


class Cat(BaseModel):
    """The other."""

    kind: Literal["cat"]


class Everything(BaseModel):
    """Has a member of every sort that bodies have."""

    text: str | None = Field(None, min_length=1, max_length=3)
    count: WholeNumber = Field(1, ge=1, le=9)
    flag: bool = False
    one: Literal["people"] = "people"
    two: Literal["add", "remove"] = "add"
    three: Literal["a", "b", "c"] = "a"
    entries: tuple[Inner, ...] = Field((), min_length=1, max_length=2)
    spec: Inner | Outer | None = None
    pet: Annotated[Dog | Cat, Field(discriminator="kind")] | None = None
    code: Annotated[str, WrittenAs("^[0-9]+$", "is not a number of digits")] = "1"

    @model_validator(mode="after")
    def _odd(self) -> "Everything":
        if self.count == 9:
            raise PydanticCustomError("odd", "has a count that is nine")
        return self


def faults(raw: str | bytes) -> list[tuple[str, str]]:
    raw = raw if isinstance(raw, bytes) else raw.encode()
    try:
        Everything.model_validate_json(raw, strict=True)
    except ValidationError as error:
        found = json_faults(error, raw)
    else:
        found = []
    return [("/".join(map(str, fault.loc)), fault.sentence) for fault in found]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param({"text": 5}, [("text", "is not a text")], id="no text"),
        pytest.param({"text": ""}, [("text", "is empty")], id="an empty text"),
        pytest.param({"text": "abcd"}, [("text", "has more than 3 characters")], id="a long text"),
        pytest.param({"count": "x"}, [("count", "is not a whole number")], id="no number"),
        pytest.param({"count": True}, [("count", "is not a whole number")], id="a boolean"),
        pytest.param({"count": 1.5}, [("count", "is not a whole number")], id="a broken number"),
        pytest.param({"count": None}, [("count", "is not a whole number")], id="null"),
        pytest.param({"count": 0}, [("count", "must be at least 1")], id="too little"),
        pytest.param({"count": 10}, [("count", "must be at most 9")], id="too much"),
        pytest.param({"count": 9}, [("", "has a count that is nine")], id="a validator of ours"),
        pytest.param({"flag": "no"}, [("flag", "is neither true nor false")], id="no boolean"),
        pytest.param({"flag": 0}, [("flag", "is neither true nor false")], id="a number"),
        pytest.param({"one": "x"}, [("one", "must be people")], id="of one word another"),
        pytest.param({"two": "x"}, [("two", "is neither add nor remove")], id="of two words"),
        pytest.param({"three": "x"}, [("three", "is none of a, b, c")], id="of three words"),
        pytest.param({"entries": []}, [("entries", "is empty")], id="an empty array"),
        pytest.param({"entries": {}}, [("entries", "is not an array")], id="no array"),
        pytest.param(
            {"entries": [5]}, [("entries/0", "is not an object")], id="an entry, which is counted"
        ),
        pytest.param(
            {"entries": [{"path": "a"}] * 3}, [("entries", "has more than 2 entries")], id="many"
        ),
        pytest.param({"spec": 5}, [("spec", "is not an object")], id="none of two forms"),
        pytest.param(
            {"spec": {"params": {}}},
            [("spec/path", "is missing"), ("spec/params/path", "is missing")],
            id="what is missing in a form",
        ),
        pytest.param(
            {"pet": {"kind": "cow"}},
            [("pet", "has a kind that is neither dog nor cat")],
            id="another kind",
        ),
        pytest.param({"pet": {}}, [("pet", "has no kind, which says what it is")], id="no kind"),
        pytest.param({"code": "x"}, [("code", "is not a number of digits")], id="a pattern"),
        pytest.param([], [("", "is not an object")], id="another JSON"),
    ],
)
def test_fault_is_a_sentence_at_a_place_that_was_sent(
    sent: Any, expected: list[tuple[str, str]]
) -> None:
    assert faults(json.dumps(sent)) == expected


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        pytest.param(b'{"text": ', "is no JSON: see line 1, column 9", id="cut short"),
        pytest.param(b"", "is no JSON: see line 1, column 0", id="nothing"),
        pytest.param(b'{"text": "\xff"}', "is no JSON: see line 1, column 11", id="no UTF-8"),
    ],
)
def test_text_that_is_no_json_is_told_by_its_place(raw: bytes, sentence: str) -> None:
    assert faults(raw) == [("", sentence)]


@pytest.mark.parametrize(
    "count", [4, 4.0, "4"], ids=["an integer", "as pandas writes it", "as a document has it"]
)
def test_whole_number_is_taken_however_it_is_written(count: Any) -> None:
    read = Everything.model_validate_json(json.dumps({"count": count}), strict=True)

    assert read.count == 4
