import msgspec
import pytest
from msgspec.structs import replace

from segments.doors.live_audience.codes import code_of, description_of
from segments.doors.live_audience.status import is_described, refusal, status_of
from segments.model.job import Job, JobState, Planned, Report, failed
from segments.model.order import Order, SegmentAction
from segments.model.stop_reason import UNTOLD, Stopped, StopReason
from tests.segments.ingest.deliveries import metadata_of

METADATA = metadata_of(
    b"", records=10, segments=[("123", "add"), ("456", "remove"), ("x", "add")], sub_id="476378"
)
QUEUED = Job(
    id=1,
    transaction_id="12345678",
    door="test",
    partner_id=1,
    owner_id=2,
    fingerprint="",
    blob="",
    file_name="a.txt",
    order=Order(()),
    metadata=METADATA,
    state=JobState.QUEUED,
    created_at_s=0,
)
HEAD = {
    "transaction_id": "12345678",
    "partner_id": METADATA["partner_id"],
    "sub_id": "476378",
    "file": METADATA["file"],
}


def test_processed_file_is_told_as_in_the_document() -> None:
    done = replace(
        QUEUED,
        state=JobState.DONE,
        report=Report(
            valid=9,
            added=3,
            refused=6,
            segments=(
                Planned("123", SegmentAction.ADD, 7),
                Planned("456", SegmentAction.REMOVE, 8),
                Planned("x", SegmentAction.ADD),
            ),
        ),
    )

    said = msgspec.json.decode(status_of(done))
    said.pop("details", None)
    assert said == {
        **HEAD,
        "segments": [
            {"id": "123", "action": "add", "code": "OK", "records": 9},
            {"id": "456", "action": "remove", "code": "OK", "records": 9},
            {"id": "x", "action": "add", "code": "1", "records": 0},
        ],
    }


def test_partner_can_not_learn_from_the_status_who_opted_out() -> None:
    said = {
        status_of(
            replace(
                QUEUED,
                state=JobState.DONE,
                report=Report(
                    valid=1,
                    added=1 - refused,
                    refused=refused,
                    segments=(Planned("123", SegmentAction.ADD, 7),),
                ),
            )
        )
        for refused in (0, 1)
    }

    assert len(said) == 1


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.HELD])
def test_file_that_waits_is_told_with_its_transaction_and_without_results(state: JobState) -> None:
    assert msgspec.json.decode(status_of(replace(QUEUED, state=state))) == {
        **HEAD,
        "segments": [
            {"id": "123", "action": "add"},
            {"id": "456", "action": "remove"},
            {"id": "x", "action": "add"},
        ],
    }


@pytest.mark.parametrize("reason", StopReason)
def test_failure_is_told_by_the_documents_code_and_by_what_to_do(reason: StopReason) -> None:
    error = {"code": str(code_of(reason)), "description": description_of(reason)}
    details = {"reason": reason.value, "message": "x", "what_to_do": reason.advice}
    if reason in UNTOLD:
        del details["message"]
    of_metadata = msgspec.json.decode(refusal(Stopped(reason, "x")))
    of_file = msgspec.json.decode(status_of(failed(QUEUED, Stopped(reason, "x"), 5)))

    assert of_metadata == {"error": error, "details": details}
    assert of_file == {"error": error, "details": {**details, "data_file": "a.txt"}}
    assert reason.advice.endswith(".")


def test_sub_id_that_was_not_given_is_not_told() -> None:
    without = replace(QUEUED, metadata=metadata_of(b"", records=10))

    assert "sub_id" not in msgspec.json.decode(status_of(without))


def test_only_a_job_that_came_with_a_metadata_file_has_a_status_file() -> None:
    assert is_described(QUEUED)
    assert not is_described(replace(QUEUED, metadata={"request_id": "1767225600.000001"}))
