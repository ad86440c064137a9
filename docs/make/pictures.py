"""
Pictures of boxes and arrows: `NAME.toml` becomes `NAME-light.svg` and `NAME-dark.svg`.

    width, height      of the picture, in pixels
    [[box]]            name; at = [x, y] of its upper left corner; size = [width, height];
                       kind = "ours", "store" or "outside"; lines = [title, text, ...]
    [[text]]           at; lines
    [[arrow]]          from, to = "BOX.SIDE" (left, right, top, bottom), or "BOX.SIDE+N" for N
                       pixels along that side from its middle; label; label_at = [x, y] where it
                       isn't the middle; both = true: a head at each end

An arrow whose ends are not in one line turns once if it leaves one box sideways and the other
one upwards or downwards, else twice, half way.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

Point = tuple[float, float]

_END = re.compile(r"(\w+)\.(left|right|top|bottom)([+-]\d+)?")
_LINE_PX = 17
_CAP_PX = 7
"""Half the height of a store's upper ellipse."""


@dataclass(frozen=True)
class Theme:
    """The colours of one rendering."""

    name: str
    text: str
    faint: str
    line: str
    ours: str
    store: str
    outside: str


THEMES = (
    Theme("light", "#1f2328", "#59636e", "#59636e", "#ddf4ff", "#fff8c5", "#f6f8fa"),
    Theme("dark", "#f0f6fc", "#9198a1", "#9198a1", "#0d2d4d", "#3b2e00", "#151b23"),
)


def pictures(folder: Path) -> dict[Path, str]:
    """Return each picture of a folder, by the path that it has to have."""
    return {
        source.with_name(f"{source.stem}-{theme.name}.svg"): draw(
            tomllib.loads(source.read_text(encoding="utf-8")), theme
        )
        for source in sorted(folder.glob("*.toml"))
        for theme in THEMES
    }


def draw(described: Mapping[str, Any], theme: Theme) -> str:
    """
    Return a picture as SVG.

    Raises:
        KeyError: An arrow names a box that there is not.
    """
    width, height = described["width"], described["height"]
    boxes = {box["name"]: box for box in described.get("box", ())}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="system-ui, sans-serif" font-size="13">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
        ' markerHeight="8" orient="auto-start-reverse">'
        f'<path d="M0 0 8 4 0 8z" fill="{theme.line}"/></marker></defs>',
    ]
    parts += [_box(box, theme) for box in boxes.values()]
    parts += [_arrow(arrow, boxes, theme) for arrow in described.get("arrow", ())]
    parts += [
        _lines(text["lines"], text["at"][0], text["at"][1], theme, anchor="start")
        for text in described.get("text", ())
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _box(box: Mapping[str, Any], theme: Theme) -> str:
    (x, y), (width, height), kind = box["at"], box["size"], box["kind"]
    look = f'fill="{getattr(theme, kind)}" stroke="{theme.line}"'
    if kind == "store":
        half = width / 2
        shape = (
            f'<path d="M{x} {y + _CAP_PX} a{half:g} {_CAP_PX} 0 0 1 {width} 0'
            f' v{height - 2 * _CAP_PX} a{half:g} {_CAP_PX} 0 0 1 {-width} 0 z" {look}/>'
            f'<path d="M{x} {y + _CAP_PX} a{half:g} {_CAP_PX} 0 0 0 {width} 0" fill="none"'
            f' stroke="{theme.line}"/>'
        )
    else:
        dashes = ' stroke-dasharray="4 3"' if kind == "outside" else ""
        shape = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" {look}{dashes}/>'
    lines = box["lines"]
    middle = y + height / 2 + (_CAP_PX if kind == "store" else 0)
    first = middle - (len(lines) - 1) * _LINE_PX / 2 + 4
    return shape + "\n" + _lines(lines, x + width / 2, first, theme, anchor="middle", bold=True)


def _lines(
    lines: Sequence[str], x: float, y: float, theme: Theme, *, anchor: str, bold: bool = False
) -> str:
    spans = []
    for number, line in enumerate(lines):
        is_title = bold and number == 0
        look = f'fill="{theme.text if is_title else theme.faint}"'
        weight = ' font-weight="600"' if is_title else ""
        spans.append(
            f'<text x="{x:g}" y="{y + number * _LINE_PX:g}" text-anchor="{anchor}"'
            f" {look}{weight}>{escape(line)}</text>"
        )
    return "\n".join(spans)


def _arrow(arrow: Mapping[str, Any], boxes: Mapping[str, Any], theme: Theme) -> str:
    (start, leaves_sideways), (end, comes_sideways) = (
        _end(arrow[key], boxes) for key in ("from", "to")
    )
    points = [start, *_turns(start, end, leaves_sideways, comes_sideways), end]
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    tail = ' marker-start="url(#head)"' if arrow.get("both") else ""
    drawn = (
        f'<polyline points="{path}" fill="none" stroke="{theme.line}" stroke-width="1.5"'
        f' marker-end="url(#head)"{tail}/>'
    )
    if "label" not in arrow:
        return drawn
    x, y = arrow.get("label_at") or ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 6)
    return f"{drawn}\n{_lines(arrow['label'].split(chr(10)), x, y, theme, anchor='middle')}"


def _turns(start: Point, end: Point, leaves_sideways: bool, comes_sideways: bool) -> list[Point]:
    if start[0] == end[0] or start[1] == end[1]:
        return []
    if leaves_sideways != comes_sideways:
        return [(end[0], start[1]) if leaves_sideways else (start[0], end[1])]
    if leaves_sideways:
        half = (start[0] + end[0]) / 2
        return [(half, start[1]), (half, end[1])]
    half = (start[1] + end[1]) / 2
    return [(start[0], half), (end[0], half)]


def _end(text: str, boxes: Mapping[str, Any]) -> tuple[Point, bool]:
    """Return where an arrow's end lies, and whether it leaves its box sideways."""
    found = _END.fullmatch(text)
    assert found is not None, f"an end is BOX.SIDE or BOX.SIDE+N: {text}"
    name, side, along = found[1], found[2], float(found[3] or 0)
    (x, y), (width, height) = boxes[name]["at"], boxes[name]["size"]
    if side in ("left", "right"):
        return (x + (width if side == "right" else 0), y + height / 2 + along), True
    return (x + width / 2 + along, y + (height if side == "bottom" else 0)), False
