import json
import subprocess
import sys
from collections import Counter

import pytest

from loadtest.population import Population
from loadtest.traffic import LARGEST_BYTES, SMALLEST_BYTES, Traffic, expectation
from rtb.outcome import Outcome, Reason

POPULATION = Population(50_000)
COUNT = 4_000


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return Traffic(POPULATION, seed=3)


def test_a_request_follows_from_seed_and_index_alone(traffic: Traffic) -> None:
    again = Traffic(Population(50_000), seed=3)

    # In another order, from another object.
    assert [again.request(i) for i in (9, 4, 9)] == [traffic.request(i) for i in (9, 4, 9)]
    assert traffic.request(4).body != Traffic(POPULATION, seed=4).request(4).body


def test_another_process_makes_the_same_requests(traffic: Traffic) -> None:
    """
    Python salts the hashes of strings anew in each process; nothing may follow from them.
    """
    code = (
        "import sys; from loadtest.traffic import Traffic; from loadtest.population import"
        " Population; t = Traffic(Population(50_000), seed=3);"
        " sys.stdout.buffer.write(b''.join(t.request(i).body for i in range(200)))"
    )

    made = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout

    assert made == b"".join(traffic.request(i).body for i in range(200))


def test_requests_are_legal_json_of_one_to_six_kilobytes(traffic: Traffic) -> None:
    sizes = []
    for index in range(COUNT):
        body = traffic.request(index).body
        bid_request = json.loads(body)
        assert bid_request["id"]
        assert bid_request["imp"]
        assert ("site" in bid_request) != ("app" in bid_request)
        sizes.append(len(body))

    assert min(sizes) >= SMALLEST_BYTES
    assert max(sizes) <= LARGEST_BYTES
    assert 2_000 < sorted(sizes)[COUNT // 2] < 3_000


def test_every_outcome_that_traffic_alone_can_cause_is_in_the_mix(traffic: Traffic) -> None:
    due = [expectation(traffic.request(i), POPULATION) for i in range(COUNT)]
    outcomes = Counter(e.outcome for e in due)
    reasons = {e.reason for e in due}

    assert 0.4 < outcomes[Outcome.ENRICHED] / COUNT < 0.6
    assert set(outcomes) == {
        Outcome.ENRICHED,
        Outcome.NO_MATCH,
        Outcome.NO_CONSENT,
        Outcome.NO_IDENTITY,
        Outcome.OPTED_OUT,
    }
    assert reasons >= {
        Reason.COPPA,
        Reason.LMT,
        Reason.GPC,
        Reason.US_PRIVACY_OPT_OUT,
        Reason.US_PRIVACY_UNREADABLE,
        Reason.TCF_MISSING,
        Reason.GPP_MISSING,
        Reason.TOO_MANY_IDS,
    }


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(b"1.10", id="a trailing zero"),
        pytest.param(b"1e3", id="an exponent"),
        pytest.param(b"123456789012345678901234567890", id="thirty digits"),
        pytest.param(b"\\u00e9", id="an escape"),
        pytest.param(b"\\/", id="an escaped slash"),
        pytest.param(b'"\\u0075se\\u0072":', id="an escaped key"),
        pytest.param("新聞".encode(), id="raw UTF-8"),
        pytest.param(b'"ext":{}', id="an empty user.ext"),
        pytest.param(b'"eids":[', id="2.5 and 2.6 eids"),
        pytest.param(b'"hashes":{"email":', id="input-only hashes"),
        pytest.param(b'"id":"9001"', id="a Data with our id"),
        pytest.param(b'\n  "', id="indented"),
    ],
)
def test_oddities_are_in_the_traffic(traffic: Traffic, spelling: bytes) -> None:
    assert any(spelling in traffic.request(i).body for i in range(COUNT))


def test_a_person_who_opted_out_is_never_due_any_segment(traffic: Traffic) -> None:
    seen = 0
    for index in range(COUNT):
        request = traffic.request(index)
        if any(map(POPULATION.has_opted_out, request.planted)):
            seen += 1
            assert not expectation(request, POPULATION).segments
    assert seen


def test_a_plain_hit_is_of_the_size_asked_for_and_due_one_full_set(traffic: Traffic) -> None:
    for index in range(50):
        request = traffic.plain_hit(index, 2_800)
        due = expectation(request, POPULATION)

        assert 2_750 < len(request.body) <= 2_800
        assert due.outcome is Outcome.ENRICHED
        assert [len(ids) for ids in due.segments.values()] == [5]
