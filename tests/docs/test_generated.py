"""Pages and pictures that are made from the code are as the code has it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_settings import BaseSettings, SettingsConfigDict

from docs.make.__main__ import ROOT, outdated
from docs.make.pictures import THEMES, draw
from docs.make.settings_page import CLASSES, Undocumented, rows_of
from tests.docs.pages import rows_of as table_rows_of

_SETTINGS_CLASS = re.compile(r"^class (\w+)\((?:Operator|Follow)Settings\)", re.MULTILINE)


def test_no_generated_file_is_out_of_date() -> None:
    assert outdated() == [], "`make docs` writes them"


def test_each_settings_class_is_on_the_page() -> None:
    declared = {
        name
        for package in ("rtb", "segments")
        for path in (ROOT / package).rglob("*.py")
        for name in _SETTINGS_CLASS.findall(path.read_text(encoding="utf-8"))
    }

    # One that another takes its fields from has them there.
    on_page = {each.__name__ for _, settings in CLASSES for each in settings.__mro__}
    assert declared - on_page == set()
    assert {settings.__name__ for _, settings in CLASSES} - declared == set()


def test_each_field_has_its_row() -> None:
    rows = table_rows_of(ROOT / "docs/settings.md", "variable")

    assert len(rows) == sum(len(settings.model_fields) for _, settings in CLASSES)


def test_row_tells_name_default_limits_and_meaning() -> None:
    class Example(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="EXAMPLE_")

        wait_s: float = 2.0
        """
        How long it waits, in
        seconds.
        """

    assert list(rows_of(Example)) == ["| `EXAMPLE_WAIT_S` | `2` | How long it waits, in seconds. |"]


def test_field_without_a_docstring_is_refused() -> None:
    class Bare(BaseSettings):
        port: int = 1

    with pytest.raises(Undocumented, match=r"Bare\.port"):
        list(rows_of(Bare))


def points(svg: str) -> Iterator[list[str]]:
    for found in re.findall(r'polyline points="([^"]+)"', svg):
        yield found.split()


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        pytest.param(("a.right", "b.left"), ["10,5", "50,5"], id="in one line: straight"),
        pytest.param(("a.right", "c.top"), ["10,5", "105,5", "105,50"], id="sideways, then down"),
        pytest.param(
            ("a.right", "c.left"), ["10,5", "55,5", "55,55", "100,55"], id="sideways twice"
        ),
    ],
)
def test_arrow_turns_as_its_ends_ask(ends: tuple[str, str], expected: list[str]) -> None:
    def box(name: str, x: int, y: int) -> dict[str, Any]:
        look = {"size": [10, 10], "kind": "ours", "lines": [name]}
        return {"name": name, "at": [x, y], **look}

    described = {
        "width": 200,
        "height": 100,
        "box": [box("a", 0, 0), box("b", 50, 0), box("c", 100, 50)],
        "arrow": [{"from": ends[0], "to": ends[1]}],
    }

    assert list(points(draw(described, THEMES[0]))) == [expected]
