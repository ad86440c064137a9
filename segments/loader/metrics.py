"""
What the loader counts, for Prometheus: how the jobs go, and how far the one at work is.

    segments_ingest_lines_total{result}    valid, bad; of jobs that have ended
    segments_ingest_pairs_total{result}    added, renewed, removed, unchanged, refused; likewise
    segments_jobs_total{state}             jobs that this process has brought to done, failed, held
    segments_job_rows                      of the job at work: rows to write; 0: none is
    segments_job_rows_written              of these
    segments_job_rows_per_second           how fast
    segments_job_seconds_remaining         until they are, at this rate
    segments_store_is_well                 1: the store can be written, and has every opt-out
    segments_opt_outs_waiting              see waiting_opt_outs.py, as the next
    segments_opt_outs_oldest_seconds       how long the oldest has waited
    segments_opt_out_ids_per_minute        in the last minute, by whichever way they came
    segments_opt_out_ids_per_minute_usual  a minute's share of the day before
    segments_opt_out_flood                 1: far more than usual; they are applied all the same

No partner, file or audience is a label: there are too many of each.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge

from segments.model.job import Job, JobState
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
        self._jobs = Counter("segments_jobs", "Jobs that came to it.", ["state"], registry=registry)
        self._rows = _gauge(registry, "segments_job_rows", "Rows to write.")
        self._written = _gauge(registry, "segments_job_rows_written", "Rows written.")
        self._rate = _gauge(registry, "segments_job_rows_per_second", "Rows written a second.")
        self._remaining = _gauge(registry, "segments_job_seconds_remaining", "Seconds to go.")
        self._store = _gauge(registry, "segments_store_is_well", "The store can be written.")
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
        """Take notice of what a job has become; of its end once."""
        report = job.report
        if job.state in _ENDS:
            self._jobs.labels(job.state.value).inc()
        if job.state in (JobState.DONE, JobState.FAILED):
            self._lines.labels("valid").inc(report.valid)
            self._lines.labels("bad").inc(report.bad)
            for result in Tally._fields:
                self._pairs.labels(result).inc(getattr(report, result))
        is_at_work = job.state is JobState.RUNNING
        self._rows.set(report.valid if is_at_work else 0)
        self._written.set(report.written if is_at_work else 0)
        self._rate.set(report.rows_per_s if is_at_work else 0)
        self._remaining.set((report.remaining_s or 0) if is_at_work else 0)

    def store_is(self, well: bool) -> None:
        """Note whether the store can be written."""
        self._store.set(well)

    def show_opt_outs(self, per_minute: float, usual: float, *, is_flood: bool) -> None:
        """Note how many opt-outs there are, in ids a minute."""
        self._opt_outs.set(per_minute)
        self._usual_opt_outs.set(usual)
        self._flood.set(is_flood)


def _gauge(registry: CollectorRegistry, name: str, what: str) -> Gauge:
    return Gauge(name, what, registry=registry)
