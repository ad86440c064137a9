"""Checks by the publishers' notes whether the publications of a store are kept up to date."""

from collections.abc import AsyncIterator
from math import ceil
from typing import Final

from redis.asyncio import Redis

from segments.store.changed_buckets import publications
from segments.upkeep.doctor.findings import Finding, Grade

_OLD_S: Final = 60.0
"""Publishers write `LATEST` at least each 30 s."""


async def look_at_publications(redis: Redis, now_s: float) -> AsyncIterator[Finding]:
    """Yield a finding for each publication."""
    for place, made_at_s in sorted(await publications(redis)):
        if not made_at_s:
            yield Finding(Grade.POOR, f"publication: {place}: nothing is published yet; {_CURE}")
            continue
        age_s = max(0, ceil(now_s - made_at_s))
        said = f"publication: {place}: LATEST is {age_s} s old"
        if age_s > _OLD_S:
            yield Finding(Grade.POOR, f"{said}, and pods stop relying on it; {_CURE}")
        else:
            yield Finding(Grade.GOOD, said)


_CURE: Final = (
    "start `rtb-segments publish`, or see its log; a publication that was given up is forgotten"
    " after a week"
)
