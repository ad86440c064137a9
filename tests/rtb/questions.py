"""Pipelines of what else than bid requests is asked, over the catalog of `tests.rtb.requests`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from rtb.id_rules import with_named_kinds
from rtb.openrtb.curation import read_segment_request
from rtb.openrtb.targeting import Targeting
from rtb.pipeline import Pipeline, Question, Result
from tests.rtb.requests import CATALOG, NOW_S, OPTIONS

PIPELINES: Final[Mapping[str, Pipeline]] = {
    "curation": Pipeline(replace(OPTIONS, strip_paths=()), read_segment_request),
    "targeting": Pipeline(
        replace(
            OPTIONS,
            id_rules=with_named_kinds(OPTIONS.id_rules),
            strip_paths=(),
            consent=replace(OPTIONS.consent, gpp_every_section=True),
        ),
        Targeting({"c": "liveintent.com", "c1": "fpid.liveintent.com"}),
    ),
}


def ask(pipeline: str, asked: bytes) -> Question | Result:
    """Put a question to the first half, as the trusted caller."""
    recipient = CATALOG.recipient(None)
    assert recipient is not None
    return PIPELINES[pipeline].ask(asked, recipient, CATALOG)


def answer(pipeline: str, question: Question, found: Sequence[bytes | None]) -> Result:
    """Put it to the second half."""
    return PIPELINES[pipeline].answer(question, found, NOW_S)
