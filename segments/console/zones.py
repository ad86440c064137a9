"""
Time zones for times on pages: those of the machine's IANA database; without it or a choice, UTC.
"""

from datetime import UTC, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

UTC_NAME = "UTC"
_AREAS = ("Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe",
          "Indian", "Pacific")  # fmt: skip


@cache
def zone_names() -> dict[str, tuple[str, ...]]:
    """Return the names of all zones that are a place's, by area."""
    known = sorted(available_timezones())
    area_to_names = {
        area: tuple(name for name in known if name.startswith(f"{area}/")) for area in _AREAS
    }
    return {area: names for area, names in area_to_names.items() if names}


def is_zone(name: str) -> bool:
    """Tell whether times can be shown in a zone."""
    return name == UTC_NAME or any(name in names for names in zone_names().values())


def zone_of(name: str) -> tzinfo:
    """Return a zone by a name of `is_zone`."""
    return UTC if name == UTC_NAME else ZoneInfo(name)
