from segments.model.stop_reason import Stopped, StopReason


def test_ledger_can_read_the_reason_back_from_the_words() -> None:
    stopped = Stopped(StopReason.NO_VALID_RECORD, "none of 3: not one")

    assert StopReason(str(stopped).partition(":")[0]) is StopReason.NO_VALID_RECORD
    assert StopReason(str(Stopped(StopReason.INTERNAL)).partition(":")[0]) is StopReason.INTERNAL
