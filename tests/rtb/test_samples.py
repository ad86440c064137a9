"""
The sample requests of OpenRTB 2.6, section 6.2, as the specification prints them.

In `samples/`: simple banner, expandable creative (whose `user.data` has no
`segment`), mobile, video, PMP with direct deal. The IAB Tech Lab publishes
them under the Creative Commons Attribution 3.0 licence.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtb.id_rules import IdRule
from rtb.openrtb.inject import inject
from rtb.outcome import Outcome
from rtb.pipeline import Pipeline, Result
from segments.model.identity import IdentifierKind
from tests.rtb.requests import OPTIONS, PIPELINE, answered, ask, members, packed

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.json"))
NAMES = [path.stem for path in SAMPLES]

# The samples' own user ids, so that there is a person to enrich.
BY_USER_ID = Pipeline(
    replace(
        OPTIONS,
        id_rules=(
            IdRule(IdentifierKind.EID, path="user.id", source="exchange.example"),
            IdRule(IdentifierKind.EID, path="site.user.id", source="exchange.example"),
        ),
    )
)


def test_there_are_five_samples() -> None:
    assert len(SAMPLES) == 5


@pytest.mark.parametrize("path", SAMPLES, ids=NAMES)
def test_sample_of_a_person_unknown_to_us_leaves_byte_for_byte(path: Path) -> None:
    body = path.read_bytes()

    result = ask(body, pipeline=PIPELINE)

    assert isinstance(result, Result)
    assert result == Result(body, Outcome.NO_IDENTITY)


@pytest.mark.parametrize("path", SAMPLES, ids=NAMES)
def test_enriched_sample_is_unchanged_outside_of_user_data(path: Path) -> None:
    body = path.read_bytes()

    result = answered(body, packed(1, 2), pipeline=BY_USER_ID)

    assert result.additions is not None
    answer = inject(result.body, result.additions)
    ours = {"id": "shop", "name": "Shop", "segment": [{"id": "101"}, {"id": "102"}]}
    expected: dict[str, Any] = json.loads(body)
    expected.setdefault("user", {}).setdefault("data", []).append(ours)
    assert json.loads(answer) == expected
    sent, received = members(body), members(answer)
    sent.pop("user", None)
    received.pop("user")
    assert received == sent
