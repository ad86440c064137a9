import pytest

from segments.model.stop_reason import Stopped, StopReason


def test_ledger_can_read_the_reason_back_from_the_words() -> None:
    stopped = Stopped(StopReason.NO_VALID_RECORD, "none of 3: not one")

    assert StopReason(str(stopped).partition(":")[0]) is StopReason.NO_VALID_RECORD
    assert StopReason(str(Stopped(StopReason.INTERNAL)).partition(":")[0]) is StopReason.INTERNAL


@pytest.mark.parametrize(
    "name",
    ["caf\udce9", "no\0thing", "\x1b[2J", "\u202etxt.exe", "two\nlines"],
    ids=["no UTF-8", "a zero", "a terminal's command", "another direction", "a line end"],
)
def test_words_of_a_stop_can_be_kept_and_shown_whatever_the_file_calls_its_columns(
    name: str,
) -> None:
    """
    No database keeps half a character, and PostgreSQL no zero.
    """
    stopped = Stopped(StopReason.UNREADABLE_FILE, f"its columns are {name}, mail")

    assert stopped.detail.isprintable()
    assert stopped.detail.encode()
    assert str(stopped).endswith(", mail")
