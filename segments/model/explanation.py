"""
Explanations to partners beside the vendor's answer.

All derive from the file and its metadata alone: in a file of one line, any other number would
reveal a person's opt-out.
"""

from collections.abc import Sequence
from typing import Any

from segments.model.job import BadLineReason, Job, Report
from segments.model.order import SegmentAction, SegmentOrder
from segments.model.stop_reason import UNTOLD, Stopped, StopReason


def of_stop(stopped: Stopped) -> dict[str, Any]:
    """Explain a refusal: the reason, its place, and the remedy."""
    return _reason(stopped.reason, stopped.detail)


def of_job(job: Job, data_file: str | None = None) -> dict[str, Any]:
    """
    Explain a job that has ended, and name its data file if that may be told.
    """
    said = told_stop(job) or {}
    if data_file is not None:
        said["data_file"] = data_file
    report = job.report
    if report.rows:
        said["lines"] = {
            "records": report.rows,
            "valid": report.valid,
            "bad": report.bad,
            "bad_lines": {
                reason.value: numbers for reason, numbers in bad_lines_by_reason(report).items()
            },
        }
        if report.bad_by_reason:
            counts = {reason.value: count for reason, count in report.bad_by_reason.items()}
            said["lines"]["bad_by_reason"] = counts
        because = {line.reason.value: line.reason.in_words for line in report.bad_lines}
        if because:
            said["lines"]["bad_because"] = because
    if report.header_line:
        said["header"] = {
            "line": report.header_line,
            **({"text": report.header} if report.header else {}),
        }
    # As planned: rules may have changed since.
    refused = {planned.segment_id for planned in report.segments if planned.audience_id is None}
    segments = [
        {"id": each.segment_id, "message": each.refused_because}
        for each in job.order.segments
        if each.segment_id in refused and each.refused_because is not None
    ]
    if segments:
        said["segments"] = segments
    return said


def told_stop(job: Job) -> dict[str, Any] | None:
    """Explain why a job failed: `reason`, `message` if it may be told, `what_to_do`."""
    return None if job.stop is None else _reason(job.stop, _detail(job))


def in_a_line(job: Job) -> str | None:
    """Explain a failed job in a line; `None` if it did not fail."""
    said = told_stop(job)
    if said is None:
        return None
    return f"{job.stop}: {said.get('message', said['what_to_do'])}"


def warnings_of(segments: Sequence[SegmentOrder]) -> list[str]:
    """Return warnings of segments that are allowed, and hardly intended."""
    by_number: dict[int, list[str]] = {}
    for segment in segments:
        if segment.is_valid:
            names = by_number.setdefault(int(segment.segment_id), [])
            if segment.segment_id not in names:
                names.append(segment.segment_id)
    alike = [names for names in by_number.values() if len(names) > 1]
    warnings = [
        f"segments {' and '.join(names)} are different ones: ids are text, and zeros count"
        for names in alike
    ]
    both = {s.segment_id for s in segments if s.action is SegmentAction.ADD} & {
        s.segment_id for s in segments if s.action is SegmentAction.REMOVE
    }
    return warnings + [f"segment {name} is both added to and removed from" for name in sorted(both)]


def _detail(job: Job) -> str:
    prefix, error = f"{job.stop}: ", job.error or ""
    return error.removeprefix(prefix) if error.startswith(prefix) else ""


def _reason(reason: StopReason, detail: str) -> dict[str, Any]:
    said: dict[str, Any] = {"reason": reason.value}
    if detail and reason not in UNTOLD:
        said["message"] = detail
    return {**said, "what_to_do": reason.advice}


def bad_lines_by_reason(report: Report) -> dict[BadLineReason, list[int]]:
    """Return the numbers of some bad lines of each reason."""
    found: dict[BadLineReason, list[int]] = {}
    for line in report.bad_lines:
        found.setdefault(line.reason, []).append(line.number)
    return found
