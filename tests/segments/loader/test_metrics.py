from msgspec.structs import replace

from segments.loader.metrics import Metrics
from segments.model.job import Job, JobState, Report
from segments.model.order import Order

JOB = Job(
    id=1,
    transaction_id="1",
    door="test",
    partner_id=1,
    owner_id=1,
    fingerprint="",
    blob="",
    file_name="a.txt",
    order=Order(()),
    metadata={},
    state=JobState.RUNNING,
    created_at_s=0,
    report=Report(valid=100, bad=3, written=40, rows_per_s=20.0, added=30, unchanged=10),
)


def said(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_job_at_work_is_shown_with_its_rate_and_what_remains() -> None:
    metrics = Metrics()

    metrics.show(JOB)

    assert said(metrics, "segments_job_rows") == 100
    assert said(metrics, "segments_job_rows_written") == 40
    assert said(metrics, "segments_job_rows_per_second") == 20
    assert said(metrics, "segments_job_seconds_remaining") == 3
    assert said(metrics, "segments_ingest_lines_total", result="valid") is None


def test_jobs_at_work_are_shown_together() -> None:
    metrics = Metrics()

    metrics.show(JOB)
    metrics.show(replace(JOB, id=2, report=replace(JOB.report, rows_per_s=5.0)))

    assert said(metrics, "segments_jobs_at_work") == 2
    assert said(metrics, "segments_job_rows") == 200
    assert said(metrics, "segments_job_rows_per_second") == 25
    assert said(metrics, "segments_job_seconds_remaining") == 12

    metrics.rests(JOB)

    assert said(metrics, "segments_jobs_at_work") == 1
    assert said(metrics, "segments_job_rows") == 100


def test_job_that_ended_is_counted_and_no_more_at_work() -> None:
    metrics = Metrics()

    metrics.show(JOB)
    metrics.show(replace(JOB, state=JobState.DONE))

    assert said(metrics, "segments_job_rows") == 0
    assert said(metrics, "segments_job_seconds_remaining") == 0
    assert said(metrics, "segments_jobs_total", state="done") == 1
    assert said(metrics, "segments_ingest_lines_total", result="bad") == 3
    assert said(metrics, "segments_ingest_pairs_total", result="added") == 30


def test_held_job_has_no_lines_yet() -> None:
    metrics = Metrics()

    metrics.show(replace(JOB, state=JobState.HELD))

    assert said(metrics, "segments_jobs_total", state="held") == 1
    assert said(metrics, "segments_ingest_lines_total", result="valid") is None
