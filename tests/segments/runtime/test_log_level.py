"""How loud a process is, by the words of any host."""

import logging

import pytest
from pydantic import TypeAdapter, ValidationError

from segments.runtime.log_level import LogLevel, be_as_loud_as


@pytest.mark.parametrize(
    ("word", "level"),
    [("debug", logging.DEBUG), ("INFO", logging.INFO), ("warn", logging.WARNING),
     ("Error", logging.ERROR), ("fatal", logging.CRITICAL)],
)  # fmt: skip
def test_words_of_hosts_are_levels(word: str, level: int) -> None:
    be_as_loud_as(TypeAdapter(LogLevel).validate_python(word))

    assert logging.getLogger("rtb.server.worker").getEffectiveLevel() == level
    assert logging.getLogger("segments.loader").getEffectiveLevel() == level


def test_libraries_are_not_louder_than_info_for_then_they_quote_what_they_were_given() -> None:
    be_as_loud_as("debug")

    assert logging.getLogger("aiosqlite").getEffectiveLevel() == logging.INFO


def test_word_that_is_no_level_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValidationError, match="one of debug, info, warning, error, critical"):
        TypeAdapter(LogLevel).validate_python("loud")
