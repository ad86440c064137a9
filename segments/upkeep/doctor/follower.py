"""
Examines a pod that follows a publication: the place, the follower, and its store.

Runs in the pod, with its clocks and the follower's progress, a file of its volume.
"""

import time
from collections.abc import AsyncGenerator
from math import ceil
from pathlib import Path
from typing import Final, NamedTuple

from segments.files.published_place import PlaceAway, PublishedPlace
from segments.follow.failures import in_one_line
from segments.runtime.follow_status import read_status
from segments.store.published.form import UnreadableFile
from segments.store.published.latest import LATEST_NAME, MAX_BYTES, Keys, read
from segments.upkeep.doctor.findings import Finding, Grade
from segments.upkeep.doctor.listener import look_as_listener

RENEWED_EVERY_S: Final = 30.0
"""Publishers write `LATEST` at least as often."""

_LOOKS_WITHIN_S: Final = 10.0


class Pod(NamedTuple):
    """A pod that follows."""

    url: str
    """Of the publication."""
    trusted: Keys
    max_age_s: float
    """The highest age of the followed data."""
    data_dir: Path
    store_url: str


async def examine_pod(pod: Pod) -> AsyncGenerator[Finding]:
    """
    Yield the findings, in the order in which to mend them.

    Raises:
        segments.files.published_place.PlaceUnusable: The URL is unusable.
    """
    yield await _look_at_place(pod)
    yield _look_at_follower(pod)
    yield await look_as_listener(pod.store_url)


async def _look_at_place(pod: Pod) -> Finding:
    place = PublishedPlace(pod.url, within_s=_LOOKS_WITHIN_S)
    try:
        latest = read(await place.read(LATEST_NAME, MAX_BYTES), pod.trusted)
    except (PlaceAway, UnreadableFile) as error:
        return Finding(Grade.BAD, f"publication: {in_one_line(error)}")
    age_s = ceil(time.time() - latest.made_at_s)
    said = f"publication: LATEST {latest.number} is signed by a trusted key, and {age_s} s old"
    if age_s > RENEWED_EVERY_S + _LOOKS_WITHIN_S:
        return Finding(
            Grade.BAD if age_s > pod.max_age_s else Grade.POOR,
            f"{said}; its publisher renews it every {RENEWED_EVERY_S:g} s: see whether"
            " `rtb-segments publish` runs, and whether it can reach its ledger and its store",
        )
    return Finding(Grade.GOOD, said)


def _look_at_follower(pod: Pod) -> Finding:
    status = read_status(pod.data_dir)
    if status is None:
        return Finding(
            Grade.BAD, "follower: none runs in SEGMENTS_DATA_DIR; start `rtb-segments serve`"
        )
    now_s, monotonic_s = time.time(), time.monotonic()
    why = status.why_closed(now_s, monotonic_s)
    if why:
        return Finding(Grade.BAD, f"follower: {why}")
    said = (
        f"follower: state {status.number}, {ceil(status.age_s(now_s, monotonic_s))} s old"
        f" (RTB_FOLLOW_MAX_AGE_S permits {status.max_age_s:g})"
    )
    if status.trouble:
        return Finding(Grade.POOR, f"{said}; not followed any further: {status.trouble}")
    return Finding(Grade.GOOD, said)
