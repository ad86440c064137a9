"""
Filters for a list of runs: `property=status!=FAILED`, `property=createdAt>=1749324248`.

From the table "List audience ingestion statuses" of the vendor's reference and its example,
which compares by `<` with milliseconds although its answers have seconds. The reference's
`ingestionTime` is the document's `createdAt`. All given filters must hold.
"""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from segments.ledger.external_audience.runs import Began

RUN_STATES = ("SUCCESS", "FAILED", "PROCESSING")
_TIMES = ("ingestionTime", "createdAt")
_FORM = re.compile(r"([A-Za-z]+)(!=contains|=contains|!=|>=|<=|=|<|>)(.*)", re.DOTALL)
_OF_TEXT = ("=", "!=", "=contains", "!=contains")
_OF_TIMES = ("<", "<=", ">", ">=", "=", "!=")
_MS_FROM = 10**11
_MS_PER_S = 1000
_MAX_DIGITS = 13
_MAX_CHARS = 256


class RunFilter(NamedTuple):
    """A condition on a run."""

    property: str
    operator: str
    value: str

    def has_text(self, text: str) -> bool:
        """Tell whether a run with this text as its property matches."""
        is_so = self.value in text if self.operator.endswith("contains") else self.value == text
        return is_so != self.operator.startswith("!")


class WrongFilter(Exception):
    """A filter is not supported; the message, without a subject, says which are."""


def run_filter(text: str) -> RunFilter:
    """
    Parse a condition.

    Raises:
        WrongFilter: It is malformed or not supported.
    """
    found = _FORM.fullmatch(text)
    if found is None or found[1] not in ("name", "status", *_TIMES):
        raise WrongFilter(
            "compares none of name, status, ingestionTime and createdAt, as status=SUCCESS does"
        )
    condition = RunFilter(*found.groups())
    operators = _OF_TIMES if condition.property in _TIMES else _OF_TEXT
    if condition.operator not in operators:
        raise WrongFilter(f"compares {condition.property} otherwise than by {' '.join(operators)}")
    _check_value(condition)
    return condition


def _check_value(condition: RunFilter) -> None:
    value = condition.value
    if condition.property in _TIMES:
        if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS):
            raise WrongFilter(f"compares {condition.property} with no unix time, as 1749324248 is")
    elif not 0 < len(value) <= _MAX_CHARS:
        raise WrongFilter(f"compares {condition.property} with no text of 1 to {_MAX_CHARS}")
    elif (
        condition.property == "status"
        and not condition.operator.endswith("contains")
        and value not in RUN_STATES
    ):
        raise WrongFilter(f"compares status with none of {', '.join(RUN_STATES)}")


def states_of(filters: Sequence[RunFilter]) -> Collection[str]:
    """Return the states that the filters allow."""
    of_status = [each for each in filters if each.property == "status"]
    return [state for state in RUN_STATES if all(each.has_text(state) for each in of_status)]


def times_of(filters: Sequence[RunFilter]) -> list[Began]:
    """Return the filters on a run's start, in the ledger's whole seconds."""
    return [_began(each) for each in filters if each.property in _TIMES]


def is_named(name: str, filters: Sequence[RunFilter]) -> bool:
    """Tell whether the filters allow an audience's name."""
    return all(each.has_text(name) for each in filters if each.property == "name")


def _began(condition: RunFilter) -> Began:
    at = int(condition.value)
    if at < _MS_FROM:
        return Began(condition.operator, at)
    # For 4.845: 5 < 4.845 and 5 < 5 are both false; 4 < 4.845 and 4 < 5 are both true.
    up = condition.operator in ("<", ">=")
    return Began(condition.operator, -(-at // _MS_PER_S) if up else at // _MS_PER_S)
