"""
The content of `<filename>.status`: LiveAudience's JSON, plus `details`, which the document
lacks: the fault, its place and remedy (`segments.model.explanation`).

Three forms: accepted (valid metadata, waiting for the file), processed, and failed
("Processing Status", "Errors"). Codes are strings there, and ours.

Where the document is silent:

- The `code` of a segment whose action was carried out is `OK`: the document's 0 is an internal
  error. A rejected segment id has code 1.
- `records` of a segment counts the valid records that the action was applied to, effective or not:
  additions refused by an opt-out must not show, as a file of a single record would reveal it.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from segments.doors.live_audience.codes import code_of, description_of
from segments.model import explanation
from segments.model.job import Job, JobState
from segments.model.order import Order
from segments.model.stop_reason import Stopped, StopReason

CARRIED_OUT = "OK"
_REJECTED = str(code_of(StopReason.NOT_WELL_FORMED))
_SAID = ("partner_id", "sub_id", "file")

Kept = Mapping[str, Any]
"""A metadata file as kept in the ledger: see `segments.doors.live_audience.metadata`."""


def is_described(job: Job) -> bool:
    """Tell whether a job has metadata, and so a status file."""
    return "file" in job.metadata


def status_of(job: Job) -> bytes:
    """
    Return the status file for a job's current state.

    The job has a metadata file.
    """
    if job.stop is not None:
        return _failure(job.stop, explanation.of_job(job, job.file_name))
    if job.state is not JobState.DONE:
        return accepted(job.transaction_id, job.metadata, job.order)
    details = explanation.of_job(job, job.file_name)
    return _success(
        job.transaction_id, job.metadata, _processed(job), _with_warnings(details, job.order)
    )


def accepted(transaction_id: str, metadata: Kept, order: Order) -> bytes:
    """Return the status file of a delivery with valid metadata."""
    segments = [{"id": said["id"], "action": said["action"]} for said in metadata["segments"]]
    return _success(transaction_id, metadata, segments, _with_warnings({}, order))


def refusal(stopped: Stopped) -> bytes:
    """Return the status file of a delivery refused before it became a job."""
    return _failure(stopped.reason, explanation.of_stop(stopped))


def _failure(reason: StopReason, details: dict[str, Any]) -> bytes:
    error = {"code": str(code_of(reason)), "description": description_of(reason)}
    return _json({"error": error, "details": details})


def _success(
    transaction_id: str, metadata: Kept, segments: list[dict[str, Any]], details: dict[str, Any]
) -> bytes:
    head = {name: metadata[name] for name in _SAID if name in metadata}
    said = {"transaction_id": transaction_id, **head, "segments": segments}
    return _json({**said, "details": details} if details else said)


def _with_warnings(details: dict[str, Any], order: Order) -> dict[str, Any]:
    warnings = explanation.warnings_of(order.segments)
    return {**details, "warnings": warnings} if warnings else details


def _processed(job: Job) -> list[dict[str, Any]]:
    return [
        {
            "id": segment.segment_id,
            "action": segment.action,
            "code": _REJECTED if segment.audience_id is None else CARRIED_OUT,
            "records": 0 if segment.audience_id is None else job.report.valid,
        }
        for segment in job.report.segments
    ]


def _json(answer: dict[str, Any]) -> bytes:
    return orjson.dumps(answer, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
