"""Every reason tells its reader what to do, and none tells what is not theirs to know."""

import pytest

from segments.model import explanation
from segments.model.job import BadLine, BadLineReason, Job, JobState, Report
from segments.model.order import Order, SegmentAction, SegmentOrder
from segments.model.stop_reason import UNTOLD, Stopped, StopReason


def job_of(stop: StopReason | None = None, detail: str = "", report: Report | None = None) -> Job:
    stopped = None if stop is None else str(Stopped(stop, detail))
    order = Order((SegmentOrder("1", "s", SegmentAction.ADD),))
    state = JobState.DONE if stop is None else JobState.FAILED
    return Job(1, "t", "door", 1, 1, "f", "b", "a.txt", order, {}, state, 0.0,
               report=report or Report(), stop=stop, error=stopped)  # fmt: skip


@pytest.mark.parametrize("reason", StopReason)
def test_every_reason_says_what_to_do_in_a_sentence(reason: StopReason) -> None:
    told = explanation.of_job(job_of(reason, "3 of 4"))

    assert told["reason"] == reason.value
    assert told["what_to_do"][0].isupper()
    assert told["what_to_do"].endswith(".")
    assert ("message" in told) is (reason not in UNTOLD)


@pytest.mark.parametrize("reason", sorted(UNTOLD))
def test_detail_that_is_the_operators_is_in_no_line_that_a_customer_reads(
    reason: StopReason,
) -> None:
    line = explanation.in_a_line(job_of(reason, "9 of 10 members, at _csv:126"))

    assert line == f"{reason}: {reason.advice}"


def test_line_of_a_job_that_failed_is_its_reason_and_the_detail() -> None:
    failed = job_of(StopReason.UNREADABLE_FILE, "a.csv: it has no column mail")

    assert explanation.in_a_line(failed) == "unreadable_file: a.csv: it has no column mail"
    assert explanation.in_a_line(job_of()) is None


@pytest.mark.parametrize("reason", BadLineReason)
def test_every_kind_of_bad_line_is_told_in_words(reason: BadLineReason) -> None:
    report = Report(rows=3, valid=2, bad=1, bad_lines=(BadLine(2, reason),))

    lines = explanation.of_job(job_of(report=report))["lines"]

    assert lines["bad_lines"] == {reason.value: [2]}
    assert lines["bad_because"][reason.value].partition(" ")[0] in ("is", "has", "looks")
