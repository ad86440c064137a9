"""
The loader's Prometheus metrics: results of jobs, and progress of the running ones.

    segments_ingest_lines_total{result}    valid, bad; of jobs that have ended
    segments_ingest_pairs_total{result}    added, renewed, removed, unchanged, refused; likewise
    segments_jobs_total{state}             jobs that this process brought to done, failed, held
    segments_jobs_at_work                  jobs that this loader carries now
    segments_job_rows                      rows to write of these; 0: no job is running
    segments_job_rows_written              rows written of these
    segments_job_rows_per_second           their rate
    segments_job_seconds_remaining         until the last of them is written, each at its own rate
    segments_store_is_well                 1: the store can be written, and has every opt-out
    segments_store_came_back_empty         1: a rebuild is needed; its ledger knows of files
    segments_memberships_expected          by the ledger's jobs: `segments.ledger.expected`
    segments_memberships_held              in the store, by a sample: `segments.store.sample`
    segments_ids_held                      persons' ids with memberships, by the same sample
    segments_store_memory_bytes            of the store's servers together: INFO, used_memory
    segments_store_memory_limit_bytes      their maxmemory together; 0: one of them has none
    segments_ledger_jobs, segments_scrub_seconds_left, ...  see backlog.py
    segments_opt_outs_waiting              see waiting_opt_outs.py; likewise the next
    segments_opt_outs_oldest_seconds       how long the oldest has waited
    segments_opt_out_ids_per_minute        in the last minute, through all doors
    segments_opt_out_ids_per_minute_usual  a minute's share of the day before
    segments_opt_out_flood                 1: far more than usual; they are applied all the same

Partners, files and audiences are too many for labels.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge

from segments.model.job import Job, JobState, Report
from segments.model.record import Tally

_ENDS = (JobState.DONE, JobState.FAILED, JobState.HELD)


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._lines = Counter(
            "segments_ingest_lines", "Lines of delivered files.", ["result"], registry=registry
        )
        self._pairs = Counter(
            "segments_ingest_pairs", "Pairs of id and audience.", ["result"], registry=registry
        )
        self._jobs = Counter(
            "segments_jobs", "Jobs by their last state.", ["state"], registry=registry
        )
        self._at_work: dict[int, Report] = {}
        self._jobs_at_work = _gauge(registry, "segments_jobs_at_work", "Jobs at work.")
        self._rows = _gauge(registry, "segments_job_rows", "Rows to write.")
        self._written = _gauge(registry, "segments_job_rows_written", "Rows written.")
        self._rate = _gauge(registry, "segments_job_rows_per_second", "Rows written a second.")
        self._remaining = _gauge(registry, "segments_job_seconds_remaining", "Seconds to go.")
        self._store = _gauge(registry, "segments_store_is_well", "The store can be written.")
        self._empty = _gauge(
            registry, "segments_store_came_back_empty", "The store lacks what its ledger knows."
        )
        self._expected = _gauge(
            registry, "segments_memberships_expected", "Memberships that the ledger expects."
        )
        self._held = _gauge(
            registry, "segments_memberships_held", "Memberships in the store, by a sample."
        )
        self._ids = _gauge(registry, "segments_ids_held", "Ids with memberships, by a sample.")
        self._memory = _gauge(
            registry, "segments_store_memory_bytes", "Memory that the store uses."
        )
        self._memory_limit = _gauge(
            registry, "segments_store_memory_limit_bytes", "Memory that the store may use; 0: any."
        )
        self._opt_outs = _gauge(
            registry, "segments_opt_out_ids_per_minute", "Ids of opt-outs in the last minute."
        )
        self._usual_opt_outs = _gauge(
            registry, "segments_opt_out_ids_per_minute_usual", "A minute's share of a day."
        )
        self._flood = _gauge(registry, "segments_opt_out_flood", "Far more opt-outs than usual.")
        for state in _ENDS:
            self._jobs.labels(state.value)

    def show(self, job: Job) -> None:
        """Record a job's new state."""
        report = job.report
        if job.state in _ENDS:
            self._jobs.labels(job.state.value).inc()
        if job.state in (JobState.DONE, JobState.FAILED):
            self._lines.labels("valid").inc(report.valid)
            self._lines.labels("bad").inc(report.bad)
            for result in Tally._fields:
                self._pairs.labels(result).inc(getattr(report, result))
        if job.state is JobState.RUNNING:
            self._at_work[job.id] = report
        else:
            self._at_work.pop(job.id, None)
        self._show_at_work()

    def rests(self, job: Job) -> None:
        """Record that a job is no longer running."""
        self._at_work.pop(job.id, None)
        self._show_at_work()

    def _show_at_work(self) -> None:
        reports = self._at_work.values()
        self._jobs_at_work.set(len(reports))
        self._rows.set(sum(report.valid for report in reports))
        self._written.set(sum(report.written for report in reports))
        self._rate.set(sum(report.rows_per_s for report in reports))
        self._remaining.set(max((report.remaining_s or 0 for report in reports), default=0))

    def store_is(self, well: bool) -> None:
        """Record whether the store can be written."""
        self._store.set(well)

    def store_came_back(self, *, empty: bool) -> None:
        """Record whether the store lacks its former content."""
        self._empty.set(empty)

    def show_memberships(self, expected: float, held: float, ids: float) -> None:
        """Record the expected and the actual memberships, and the ids with any."""
        self._expected.set(expected)
        self._held.set(held)
        self._ids.set(ids)

    def show_memory(self, used_bytes: int, limit_bytes: int) -> None:
        """Record the memory of the store's servers, and its limit; 0: none."""
        self._memory.set(used_bytes)
        self._memory_limit.set(limit_bytes)

    def show_opt_outs(self, per_minute: float, usual: float, *, is_flood: bool) -> None:
        """Record the rates of opt-outs, in ids a minute."""
        self._opt_outs.set(per_minute)
        self._usual_opt_outs.set(usual)
        self._flood.set(is_flood)


def _gauge(registry: CollectorRegistry, name: str, what: str) -> Gauge:
    return Gauge(name, what, registry=registry)
