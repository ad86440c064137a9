import logging

import pytest

from segments.doors.sftp.refusal_log import RefusalLog


def test_refusal_is_told_by_partner_and_at_most_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = [0.0]
    refusals = RefusalLog(logging.getLogger("x"), lambda: now_s[0])

    for at_s in (0.0, 59.0, 60.0):
        now_s[0] = at_s
        refusals.tell("shop", "open", "the folder is full")
    refusals.tell("rival", "open", "the folder is full")
    refusals.tell(None, "login", "too many")

    assert caplog.messages == [
        "'shop': open refused: the folder is full",
        "'shop': open refused: the folder is full",
        "'rival': open refused: the folder is full",
        "login refused: too many",
    ]
