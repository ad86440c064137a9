"""
Charts as inline SVG: no script, no library, no style that a policy would forbid.

Each starts at zero, says its finding in its title, has a table beside it, and is drawn twice, wide
and narrow, to keep its letters' size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import floor, log10
from typing import NamedTuple

from markupsafe import Markup

from segments.console import formats
from segments.model.partner_numbers import AudienceNumbers
from segments.model.record import began_at_s

_LEFT, _RIGHT = 44, 8
_TOP, _HEIGHT = 14, 120
_BARS_AT, _BARS_HEIGHT = 176, 26
_STEPS = (1, 2, 5, 10)
_UNITS = ((10**9, "G"), (10**6, "M"), (10**3, "k"))
_ENDS_DAYS = 30
_SOON_DAYS = 7
_SHARES_WIDTH = 200
_GAP = 0.8
_SPARK = (90, 20)
_MICROS_PER_MS = 1000


class _Size(NamedTuple):
    name: str  # of the class that shows it
    width: int


_SIZES = (_Size("only-wide", 620), _Size("only-narrow", 330))


def members_by_day(days: Sequence[AudienceNumbers]) -> Markup | None:
    """
    Draw an audience's members, and below their change from count to count.

    Args:
        days: The latest first; those with too few members to tell are left out.

    Returns:
        `None` if fewer than two days can be told.
    """
    told = [(each.day, each.members) for each in reversed(days) if each.members is not None]
    if len(told) < 2:
        return None
    (first, before), (last, now) = told[0], told[-1]
    title = f"Members from {_day(first)} to {_day(last)}: from {_short(before)} to {_short(now)}"
    return Markup("").join(_members(size, told, title) for size in _SIZES)


def ends_by_day(ends: Mapping[int, int], today: int) -> Markup | None:
    """
    Draw the memberships that end on each of the next days.

    Returns:
        `None` if none of these days can be told.
    """
    days = range(today, today + _ENDS_DAYS)
    most = max((ends.get(day, 0) for day in days), default=0)
    if not most:
        return None
    busiest = max(days, key=lambda day: ends.get(day, 0))
    title = f"Memberships by their last day: most, {_short(most)}, on {_day(busiest)}"
    return _ends(_Size("", 330), days, ends, title)


def shares(parts: Sequence[tuple[str, float]], title: str) -> Markup:
    """
    Draw the parts of a whole side by side.

    Args:
        parts: Class and share, 0 to 1 in sum.
        title: What a screen reader says.
    """
    drawn, at = [], 0.0
    for kind, share in parts:
        width = _SHARES_WIDTH * share
        if share:
            drawn.append(_bar(kind, at, 0, max(width - _GAP, _GAP / 2), 10))
        at += width
    return Markup(
        '<svg class="share" viewBox="0 0 {} 10" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    ).format(_SHARES_WIDTH, title, Markup("").join(drawn))


def sparkline(values: Sequence[float], title: str) -> Markup | None:
    """Draw a course from zero, without axes; `None`: too short."""
    if len(values) < 2:
        return None
    top = max(*values, 1e-9)
    step = _SPARK[0] / (len(values) - 1)
    points = [(n * step, _SPARK[1] - _SPARK[1] * value / top) for n, value in enumerate(values)]
    line = _tag("path", class_="line", d=_line(points))
    return Markup(
        '<svg class="spark" viewBox="-1 -1 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(_SPARK[0] + 2, _SPARK[1] + 2, title, line)


def answer_times(
    at_to_p99_s: Sequence[tuple[float, float]], clock: Callable[[float], str]
) -> Markup | None:
    """
    Draw the answer time of each minute.

    Args:
        at_to_p99_s: A minute's start and its 99th percentile in seconds, the oldest first.
        clock: Writes a time of day.

    Returns:
        `None` if there are fewer than two minutes.
    """
    if len(at_to_p99_s) < 2:
        return None
    told = [(at_s, max(1, round(p99_s * 1e6))) for at_s, p99_s in at_to_p99_s]
    (first, _), (last, now) = told[0], told[-1]
    worst_at, worst = max(told, key=lambda each: each[1])
    title = (
        f"Answers: 99 of 100 within {_micros(now)} now, and at worst within {_micros(worst)},"
        f" at {clock(worst_at)}"
    )
    size = _Size("", 330)
    top, floor_at, height = _round_up(worst), 70, 60
    width = size.width - _LEFT - _RIGHT
    points = [
        (_LEFT + width * (at_s - first) / (last - first), floor_at - height * value / top)
        for at_s, value in told
    ]
    parts = [
        *(_grid(size, floor_at - height * part, _micros(top * part)) for part in (0.5, 1)),
        _axis(size, floor_at),
        _tag("path", class_="line", d=_line(points)),
        _text(_LEFT, 85, "start", clock(first)),
        _text(size.width - _RIGHT, 85, "end", clock(last)),
    ]
    return _svg(size, 88, title, parts)


def _members(size: _Size, told: Sequence[tuple[int, int]], title: str) -> Markup:
    first, last = told[0][0], told[-1][0]
    width = size.width - _LEFT - _RIGHT

    def x(day: int) -> float:
        return _LEFT + width * (day - first) / (last - first)

    top = _round_up(max(members for _, members in told))
    floor_at = _TOP + _HEIGHT
    points = [(x(day), floor_at - _HEIGHT * members / top) for day, members in told]
    line = _line(points)
    area = f"{line}L{points[-1][0]:.1f} {floor_at}L{points[0][0]:.1f} {floor_at}Z"
    parts = [
        *(_grid(size, floor_at - _HEIGHT * part, _short(round(top * part))) for part in (0.5, 1)),
        _tag("path", class_="area", d=area),
        _tag("path", class_="line", d=line),
        _axis(size, floor_at),
        *_changes(size, told, x),
        _text(x(first), 216, "start", _day(first)),
        _text(x(last), 216, "end", _day(last)),
    ]
    return _svg(size, 222, title, parts)


def _changes(
    size: _Size, told: Sequence[tuple[int, int]], x: Callable[[int], float]
) -> Iterator[Markup]:
    """Yield a bar for each change."""
    changes = [(day, members - before) for (_, before), (day, members) in pairwise(told)]
    most = max(abs(change) for _, change in changes)
    yield _axis(size, _BARS_AT)
    if not most:
        return
    thick = min(8.0, (size.width - _LEFT - _RIGHT) / len(told) * 0.6)
    yield _text(_LEFT - 6, _BARS_AT - _BARS_HEIGHT + 8, "end", f"±{_short(most)}")
    for day, change in changes:
        height = _BARS_HEIGHT * abs(change) / most
        if change:
            up = change > 0
            at = min(x(day) - thick / 2, size.width - _RIGHT - thick)
            yield _bar(
                "up" if up else "down", at, _BARS_AT - height if up else _BARS_AT, thick, height
            )


def _ends(size: _Size, days: range, ends: Mapping[int, int], title: str) -> Markup:
    most = max(ends.get(day, 0) for day in days)
    width = size.width - 2 * _RIGHT
    step = width / len(days)
    floor_at, height = 96, 70
    parts = [_axis(size, floor_at, left=_RIGHT)]
    for n, day in enumerate(days):
        some = ends.get(day, 0)
        tall = height * some / most
        kind = "down" if n <= _SOON_DAYS else "quiet"
        at = _RIGHT + n * step + step * 0.15
        if some:
            parts.append(_bar(kind, at, floor_at - tall, step * 0.7, tall))
        if some == most and not any(ends.get(d, 0) == most for d in days[:n]):
            place = "start" if n < 3 else "end" if n > len(days) - 4 else "middle"
            parts.append(_text(at + step * 0.35, floor_at - tall - 5, place, _short(most)))
    parts.append(_text(_RIGHT, 112, "start", _day(days[0])))
    parts.append(_text(size.width - _RIGHT, 112, "end", _day(days[-1])))
    return _svg(size, 118, title, parts)


def _svg(size: _Size, height: int, title: str, parts: Sequence[Markup]) -> Markup:
    name = f"{title[:7].strip().lower()}-{size.name or 'all'}"
    return Markup(
        '<svg class="plot {}" viewBox="0 0 {} {}" role="img" aria-labelledby="{}">'
        '<title id="{}">{}</title>{}</svg>'
    ).format(size.name, size.width, height, name, name, title, Markup("").join(parts))


def _grid(size: _Size, at: float, label: str) -> Markup:
    line = _tag(
        "line", class_="grid", x1=_LEFT, x2=size.width - _RIGHT, y1=f"{at:.1f}", y2=f"{at:.1f}"
    )
    return line + _text(_LEFT - 6, at + 4, "end", label)


def _axis(size: _Size, at: float, left: float = _LEFT) -> Markup:
    return _tag("line", class_="axis", x1=left, x2=size.width - _RIGHT, y1=at, y2=at)


def _bar(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    placed = {"x": x, "y": y, "width": width, "height": height}
    return _tag("rect", class_=kind, **{name: f"{value:.1f}" for name, value in placed.items()})


def _text(x: float, y: float, anchor: str, text: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
        f"{x:.1f}", f"{y:.1f}", anchor, text
    )


def _tag(name: str, **attributes: object) -> Markup:
    written = Markup("").join(
        Markup(' {}="{}"').format(each.rstrip("_"), value) for each, value in attributes.items()
    )
    return Markup("<{}{}/>").format(name, written)


def _line(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{at:.1f} {up:.1f}" for at, up in points)


def _round_up(number: int) -> int:
    """Return the next 1, 2 or 5 times a power of ten."""
    scale = 10 ** floor(log10(number)) if number else 1
    return next(step * scale for step in _STEPS if step * scale >= number)


def _short(number: int) -> str:
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _micros(number: float) -> str:
    if number >= _MICROS_PER_MS:
        return f"{number / _MICROS_PER_MS:.3g} ms"
    return f"{number:.0f} µs"


def _day(day: int) -> str:
    return str(formats.day(began_at_s(day)).striptags())
