"""The shapes of the bench are what their names say, and their table says what was reached."""

import json
from collections import Counter
from typing import Any

import pytest
from click.testing import CliRunner

from loadtest.__main__ import main
from loadtest.bench.shape_report import Costs, Report
from loadtest.bench.shapes import LEAST_TC_CHARS, MIX, NAME_TO_SHAPE, SHAPES, Shape
from loadtest.population import Population
from loadtest.traffic import Traffic, expectation
from rtb.outcome import Outcome

POPULATION = Population(20_000)
TRAFFIC = Traffic(POPULATION)


def bid(shape: Shape, index: int = 0) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(shape.request(TRAFFIC, index).body)
    return loaded


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_same_index_is_the_same_request(shape: Shape) -> None:
    assert shape.request(TRAFFIC, 3) == shape.request(TRAFFIC, 3)
    assert shape.request(TRAFFIC, 3) != shape.request(TRAFFIC, 4)


def test_outcomes_are_those_of_the_names() -> None:
    unusual = {"unknown-id": Outcome.NO_MATCH, "no-identity": Outcome.NO_IDENTITY}
    for shape in SHAPES:
        outcomes = {
            expectation(shape.request(TRAFFIC, index), POPULATION).outcome for index in range(20)
        }
        if shape.name != "mix":
            assert outcomes == {unusual.get(shape.name, Outcome.ENRICHED)}, shape.name


def test_shares_of_the_mix_are_drawn() -> None:
    outcomes = Counter(
        expectation(NAME_TO_SHAPE["mix"].request(TRAFFIC, index), POPULATION).outcome
        for index in range(2_000)
    )

    assert sum(MIX.values()) == pytest.approx(1)
    assert outcomes[Outcome.NO_MATCH] / 2_000 == pytest.approx(MIX["unknown-id"], abs=0.03)
    assert outcomes[Outcome.NO_IDENTITY] / 2_000 == pytest.approx(MIX["no-identity"], abs=0.03)


@pytest.mark.parametrize(
    ("name", "size_bytes"), [("imps-8k", 8_000), ("imps-16k", 16_000), ("imps-64k", 64_000)]
)
def test_imps_fill_a_request_to_its_size(name: str, size_bytes: int) -> None:
    request = NAME_TO_SHAPE[name].request(TRAFFIC, 1)

    assert len(request.body) == pytest.approx(size_bytes, rel=0.03)
    assert len(json.loads(request.body)["imp"]) > size_bytes / 600


def test_european_app_has_what_sends_it_through_the_decoder() -> None:
    app = bid(NAME_TO_SHAPE["eu-app"])

    assert "app" in app
    assert "site" not in app
    assert app["device"].keys() >= {"ifa", "dnt", "lmt"}
    assert app["regs"]["gdpr"] == 1
    assert len(app["user"]["consent"]) >= LEAST_TC_CHARS
    assert any("ext" in uid for eid in app["user"]["eids"][:-1] for uid in eid["uids"])


def test_odd_consent_strings_are_of_both_kinds() -> None:
    assert NAME_TO_SHAPE["bench"].odd(TRAFFIC, 0) is None
    for name, place, field in (("eu-app", "user", "consent"), ("us-web", "regs", "gpp")):
        odd = [NAME_TO_SHAPE[name].odd(TRAFFIC, index) for index in range(200)]
        texts = {json.loads(request.body)[place][field] for request in odd if request}
        assert len(texts) > 100, name


def test_report_compares_the_two_of_a_round_with_the_targets() -> None:
    report = Report(
        "A machine.",
        {"ids": 1_000, "rounds": 3},
        {
            "bench": Costs([10.0, 30.0, 9.0], [20.0, 20.0, 30.0]),
            "eu-app": Costs([13.0], [20.0]),
            "gzip-in": Costs([15.0], [40.0]),
            "grpc": Costs([9.0], [10.0]),
        },
    )

    lines = report.markdown().splitlines()

    assert lines[0].startswith("`python -m loadtest shapes --ids 1000 --rounds 3 bench eu-app")
    assert "| bench | 10.0 (9.0-30.0) | 20.0 (20.0-30.0) | 0.50 | 0.5 | reached |" in lines
    assert "| eu-app | 13.0 | 20.0 | 0.65 | 0.6 | missed |" in lines
    assert "| grpc | 9.0 | 10.0 (ours in JSON) | 0.90 | 0.9 | reached |" in lines
    assert lines[-1] == "| gzip-in | +5.0 | +20.0 | 5 | reached |"


def test_unknown_shape_is_named_with_those_that_there_are() -> None:
    result = CliRunner().invoke(main, ["shapes", "bench", "square"])

    assert result.exit_code == 2
    assert "no such shape: square; there are bench, eu-app" in result.output
