import pytest

from segments.doors.live_audience.codes import DESCRIPTIONS, code_of, description_of
from segments.model.stop_reason import StopReason


@pytest.mark.parametrize("reason", StopReason)
def test_every_reason_has_a_code_of_the_document(reason: StopReason) -> None:
    assert description_of(reason) == DESCRIPTIONS[code_of(reason)]


def test_every_code_of_the_document_has_a_reason() -> None:
    assert {code_of(reason) for reason in StopReason} == set(range(9))
