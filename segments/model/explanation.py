"""
What a partner is told of a delivery beside its vendor's own answer: counts and reasons.

All of it follows from the file and its metadata alone. No number here may depend on whether a
person has opted out: a file of one line would answer that.
"""

from collections.abc import Sequence
from typing import Any

from segments.model.job import Job
from segments.model.order import SegmentAction, SegmentOrder
from segments.model.stop_reason import UNTOLD, Stopped, StopReason


def of_stop(stopped: Stopped) -> dict[str, Any]:
    """Explain a refusal: the reason, where it is, and what to do."""
    return _reason(stopped.reason, stopped.detail)


def of_job(job: Job, data_file: str | None = None) -> dict[str, Any]:
    """
    Explain a job that has ended.

    Args:
        job: Done or failed.
        data_file: What the file was called that was found, if that is told.
    """
    said: dict[str, Any] = {}
    if job.stop is not None:
        said = _reason(job.stop, _detail(job))
    if data_file is not None:
        said["data_file"] = data_file
    report = job.report
    if report.rows:
        said["lines"] = {
            "records": report.rows,
            "valid": report.valid,
            "bad": report.bad,
            "bad_lines": _bad_lines(job),
        }
        because = {line.reason.value: line.reason.in_words for line in report.bad_lines}
        if because:
            said["lines"]["bad_because"] = because
    if report.header_line:
        said["header"] = {
            "line": report.header_line,
            **({"text": report.header} if report.header else {}),
        }
    # As it was planned: what is refused today may have been allowed then.
    refused = {planned.segment_id for planned in report.segments if planned.audience_id is None}
    segments = [
        {"id": each.segment_id, "message": each.refused_because}
        for each in job.order.segments
        if each.segment_id in refused and each.refused_because is not None
    ]
    if segments:
        said["segments"] = segments
    return said


def in_a_line(job: Job) -> str | None:
    """Say why a job failed where there is room for a line alone; `None` if it did not."""
    if job.stop is None:
        return None
    said = _reason(job.stop, _detail(job))
    return f"{job.stop}: {said.get('message', said['what_to_do'])}"


def warnings_of(segments: Sequence[SegmentOrder]) -> list[str]:
    """Return what is allowed in a delivery's segments, and hardly meant."""
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


def _bad_lines(job: Job) -> dict[str, list[int]]:
    """Return the numbers of the sampled bad lines by what is wrong with them."""
    found: dict[str, list[int]] = {}
    for line in job.report.bad_lines:
        found.setdefault(line.reason.value, []).append(line.number)
    return found
