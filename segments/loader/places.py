"""
A loader's order of waiting jobs: no partner's files delay another's.

    at once         as many jobs as there are places, each of another partner
    in turn         the partner that was served longest ago comes first; of unserved
                    partners, that with the older job
    the last place  takes only files of at most `SMALL_BYTES`, which large files must not delay
    in vain         after a failure because something was away, a partner is skipped for a while,
                    longer after each attempt
    suspects        of the jobs under which several loaders have died, only one runs at a time,
                    so that no other is blamed for the file that kills its loader

Places bound memory: see `SEGMENTS_LOADER_JOBS`.
"""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import NamedTuple

from segments.model.job import Job
from segments.runtime.pauses import Backoff

SMALL_BYTES = 256 << 10
"""As delivered: a second or two of work, even for an archive."""

_SUSPECT_DEATHS = 2
_PAUSES = Backoff(1.0, 30.0)


class _Pause(NamedTuple):
    failures: int
    until_s: float


class Places:
    """One loader's running jobs, and the order of the waiting ones."""

    def __init__(self, jobs_at_once: int) -> None:
        """`jobs_at_once`: at least two."""
        self._places = jobs_at_once
        self._at_work: dict[int, Job] = {}
        self._serial = count(1)
        self._partner_to_served: dict[int, int] = {}
        self._partner_to_pause: dict[int, _Pause] = {}

    @property
    def is_full(self) -> bool:
        """Whether no job can begin."""
        return len(self._at_work) >= self._places

    @property
    def is_for_small(self) -> bool:
        """Whether only the place for small files is free."""
        return len(self._at_work) == self._places - 1

    def in_turn(self, waiting: Iterable[Job], now_s: float) -> Iterator[Job]:
        """
        Yield the jobs that may begin, in order.

        Args:
            waiting: Each partner's oldest job without a valid lease; perhaps running here, after a
                set clock or a sleep.
            now_s: The time by a monotonic clock.
        """
        has_suspect = any(map(_is_suspect, self._at_work.values()))
        served, pauses = self._partner_to_served, self._partner_to_pause
        for job in sorted(waiting, key=lambda job: (served.get(job.partner_id, 0), job.id)):
            pause = pauses.get(job.partner_id)
            is_paused = pause is not None and now_s < pause.until_s
            is_free = job.id not in self._at_work and not is_paused
            if is_free and not (has_suspect and _is_suspect(job)):
                yield job

    def begin(self, job: Job) -> None:
        """Give a claimed job its place."""
        self._at_work[job.id] = job
        self._partner_to_served[job.partner_id] = next(self._serial)

    def end(self, job: Job) -> None:
        """Free the place of an ended job, or another loader's."""
        del self._at_work[job.id]
        self._partner_to_pause.pop(job.partner_id, None)

    def end_in_vain(self, job: Job, now_s: float) -> None:
        """Free the place of a job that must wait."""
        del self._at_work[job.id]
        pause = self._partner_to_pause.get(job.partner_id)
        failures = 1 if pause is None else pause.failures + 1
        # Each attempt reads the whole file again.
        until_s = now_s + _PAUSES.after(failures)
        self._partner_to_pause[job.partner_id] = _Pause(failures, until_s)


def _is_suspect(job: Job) -> bool:
    return job.checkpoint.deaths >= _SUSPECT_DEATHS
