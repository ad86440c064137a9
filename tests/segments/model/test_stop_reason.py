import pytest

from segments.model.stop_reason import DESCRIPTIONS, Stopped, StopReason


@pytest.mark.parametrize("reason", StopReason)
def test_every_reason_has_a_code_of_the_document(reason: StopReason) -> None:
    assert reason.description == DESCRIPTIONS[reason.code]


def test_every_code_of_the_document_has_a_reason() -> None:
    assert {reason.code for reason in StopReason} == set(range(9))


def test_ledger_can_read_the_reason_back_from_the_words() -> None:
    stopped = Stopped(StopReason.NO_VALID_RECORD, "none of 3: not one")

    assert StopReason(str(stopped).partition(":")[0]) is StopReason.NO_VALID_RECORD
    assert StopReason(str(Stopped(StopReason.INTERNAL)).partition(":")[0]) is StopReason.INTERNAL
