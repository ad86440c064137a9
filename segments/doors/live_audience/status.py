"""
The content of `<filename>.status`, in exactly LiveAudience's JSON.

Three forms: accepted (the metadata was in order, the file waits), processed,
and failed ("Processing Status", "Errors"). Codes are strings there, and ours.

Where the document is silent:

- `code` of a segment whose action was carried out is `OK`. No number can say
  so: the document's 0 is an internal error. A rejected segment id has code 1.
- `records` of a segment counts the valid records that the action was applied
  to, whether or not they changed anything. It must not tell additions that an
  opt-out refused: a file of one record would then answer whether that person
  has opted out.
"""

from typing import Any

import orjson

from segments.ingest.validate import Metadata
from segments.model.job import Job, JobState
from segments.model.stop_reason import StopReason

CARRIED_OUT = "OK"
_REJECTED = str(StopReason.NOT_WELL_FORMED.code)


def status_of(job: Job) -> bytes:
    """Return the status file of a job as it stands."""
    if job.stop is not None:
        return refusal(job.stop)
    metadata = Metadata.model_validate(job.metadata)
    if job.state is not JobState.DONE:
        return accepted(job.transaction_id, metadata)
    return _success(job.transaction_id, metadata, _processed(job))


def accepted(transaction_id: str, metadata: Metadata) -> bytes:
    """Return the status file of a delivery whose metadata is in order."""
    segments = [{"id": segment.id, "action": segment.action} for segment in metadata.segments]
    return _success(transaction_id, metadata, segments)


def refusal(reason: StopReason) -> bytes:
    """Return the status file of a delivery that failed, before it was a job or after."""
    return _json({"error": {"code": str(reason.code), "description": reason.description}})


def _success(transaction_id: str, metadata: Metadata, segments: list[dict[str, Any]]) -> bytes:
    head = metadata.model_dump(
        mode="json", include={"partner_id", "sub_id", "file"}, exclude_none=True
    )
    return _json({"transaction_id": transaction_id, **head, "segments": segments})


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
