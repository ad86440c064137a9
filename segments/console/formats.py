"""
How pages write times, numbers and sizes.

A narrow no-break space sets thousands apart, inside `<data value>`, so scripts copy numbers. Times
are in the visitor's zone, days in UTC, as those of memberships and counts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, tzinfo

from markupsafe import Markup

_NARROW = "\u202f"
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_STEP = 1000
_zone: ContextVar[tzinfo] = ContextVar("zone", default=UTC)


@contextmanager
def in_zone(zone: tzinfo) -> Iterator[None]:
    """Write times in a zone, in this context."""
    token = _zone.set(zone)
    try:
        yield
    finally:
        _zone.reset(token)


def number(value: int) -> Markup:
    """Return a count."""
    said = f"{value:,d}".replace(",", _NARROW)
    # Not by `Markup.format`, which costs a page of hundreds a tenth of its time.
    return Markup(f'<data value="{value:d}">{said}</data>')  # noqa: S704 - digits alone


def moment(at_s: float) -> Markup:
    """Return a time, to the minute, in the zone."""
    return _time(at_s, "%Y-%m-%d %H:%M")


def clock(at_s: float) -> Markup:
    """Return a time of day, to the second, in the zone."""
    return _time(at_s, "%H:%M:%S")


def hour(at_s: float) -> str:
    """Return a time of day as bare text, to the minute, in the zone."""
    return datetime.fromtimestamp(at_s, _zone.get()).strftime("%H:%M")


def day(at_s: float) -> Markup:
    """Return a date, in UTC."""
    said = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d")
    return Markup('<time datetime="{}">{}</time>').format(said, said)


def size(value: int) -> str:
    """Return a size in decimal units."""
    left, unit = float(value), 0
    while left >= _STEP and unit < len(_UNITS) - 1:
        left, unit = left / _STEP, unit + 1
    return f"{value} bytes" if unit == 0 else f"{left:.3g} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Return a duration in its largest unit, of at least two of the next smaller."""
    for length_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def sentence(text: str) -> str:
    """Return a message as a sentence."""
    return text[:1].upper() + text[1:]


def percent(share: float) -> str:
    """Return a fraction in percent."""
    return f"{share * 100:.3g} %"


def rate(per_s: float) -> str | Markup:
    """Return a number a second: whole ones from 10 on."""
    return number(round(per_s)) if per_s >= 10 or not per_s else f"{per_s:.2g}"


def _time(at_s: float, form: str) -> Markup:
    at = datetime.fromtimestamp(at_s, UTC)
    said = at.astimezone(_zone.get()).strftime(form)
    return Markup(f'<time datetime="{at:%Y-%m-%dT%H:%M:%SZ}">{said}</time>')  # noqa: S704 - a time
