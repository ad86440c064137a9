"""
The numbers that a partner may read: none reveals a person's opt-out.

A partner chooses the content of its files and audiences, so exact counts would answer for a single
person: a file of one line by its `refused`, an audience of known persons by its members.

    of a file        lines, bad lines, duplicates, persons: the file alone decides them; never how
                     many were added, renewed, unchanged or refused
    of an audience   members, by the census: one count a day, in hundreds; under 1,000 none
                     the change from day to day: between two such counts; of some weeks what
                     the days gained and lost, but for changes that rounding alone could make
                     the share opted out, from 100,000 members on
                     memberships by their last day, in thousands

A count is rounded down after adding an offset below the step, made from a secret of the ledger for
each audience, day and number, so no partner can place an audience just below a step. Thresholds are
of the rounded count. A RESTRICT changes the share alone, on one of 100 days. An ERASURE, or a
refused addition, changes members on one of 100 days, and a memberships' end on one of 1,000.

API and pages take partners' numbers from here alone.
"""

import hmac
from collections.abc import Iterable
from typing import NamedTuple

from segments.model.audience_count import AudienceCount
from segments.model.job import Report

STEP = 100
ENDS_STEP = 1_000
MIN_MEMBERS = 1_000
MIN_MEMBERS_FOR_SHARE = 100_000
_SHARE_DIGITS = 3


class FileNumbers(NamedTuple):
    """The numbers of a file."""

    lines: int  # records, neither blank nor the header
    bad: int
    duplicates: int
    persons: int  # named by the lines read so far, each once


class AudienceNumbers(NamedTuple):
    """The numbers of an audience on a day."""

    day: int  # as segments.model.record.day_of counts
    counted_at_s: float
    members: int | None  # hidden by opt-outs included; `None`: under `MIN_MEMBERS`
    opted_out_share: float | None  # of the members; `None`: too few members to tell
    ends: dict[int, int]  # memberships' last day -> their number; none under 1,000


def of_file(report: Report) -> FileNumbers:
    """Return a partner's numbers of a file."""
    persons = max(0, report.written - report.duplicates)
    return FileNumbers(report.rows, report.bad, report.duplicates, persons)


def of_audience(count: AudienceCount, secret: bytes) -> AudienceNumbers:
    """
    Return a partner's numbers of an audience, with the ledger's secret for this purpose.
    """

    def told(what: str, exact: int, step: int) -> int:
        return rounded(exact, step, offset(secret, count.audience_id, count.day, what, step))

    members = members_of(count.audience_id, count.day, count.members, secret)
    if members is None:
        return AudienceNumbers(count.day, count.counted_at_s, None, None, {})
    share = None
    if members >= MIN_MEMBERS_FOR_SHARE:
        opted_out = told("opted out", count.opted_out, STEP)
        share = round(opted_out / members, _SHARE_DIGITS)
    ends = {day: told(f"ends {day}", exact, ENDS_STEP) for day, exact in count.ends.items()}
    told_ends = {day: some for day, some in sorted(ends.items()) if some}
    return AudienceNumbers(count.day, count.counted_at_s, members, share, told_ends)


def members_of(audience_id: int, day: int, exact: int, secret: bytes) -> int | None:
    """Return a partner's number of an audience's members on a day; `None`: too few to tell."""
    members = rounded(exact, STEP, offset(secret, audience_id, day, "members", STEP))
    return None if members < MIN_MEMBERS else members


def gains_and_losses(members: Iterable[int]) -> tuple[int, int]:
    """
    Return the members that an audience won, and those that it lost, by partners' numbers of days.

    Numbers of the same members differ by up to `STEP`, so a change counts from beyond that on, and
    an audience at rest shows none. What came and went within a day is in neither.

    Args:
        members: The oldest first.
    """
    gained = lost = 0
    before: int | None = None
    for each in members:
        change = 0 if before is None else each - before
        if before is not None and abs(change) <= STEP:
            continue
        before = each
        gained += max(0, change)
        lost += max(0, -change)
    return gained, lost


def rounded(exact: int, step: int, offset: int) -> int:
    """Round down to a multiple of a step, after adding an offset below the step."""
    return (exact + offset) // step * step


def offset(secret: bytes, audience_id: int, day: int, what: str, step: int) -> int:
    """Make the constant offset of a number, 0 to below the step."""
    drawn = hmac.digest(secret, f"{audience_id} {day} {what}".encode(), "sha256")
    return int.from_bytes(drawn[:8]) % step
