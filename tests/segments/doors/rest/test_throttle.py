import pytest

from segments.doors.rest.throttle import Throttle
from segments.model.limit import Limit
from tests.rest import FakeClock

LIMIT = Limit(burst=3, per_s=1 / 10)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def failing(clock: FakeClock, times: int, **options: int) -> Throttle:
    throttle = Throttle(LIMIT, clock, **options)
    for _ in range(times):
        throttle.failed("bob")
    return throttle


@pytest.mark.parametrize(
    ("failures", "wait_s"),
    [
        pytest.param(0, 0, id="nothing happened"),
        pytest.param(2, 0, id="room for one more"),
        pytest.param(3, 10, id="full"),
        pytest.param(5, 30, id="overfull"),
    ],
)
def test_burst_is_forgiven_and_then_each_costs_its_time(
    clock: FakeClock, failures: int, wait_s: int
) -> None:
    assert failing(clock, failures).wait_s("bob") == wait_s


def test_names_are_counted_apart(clock: FakeClock) -> None:
    assert failing(clock, 3).wait_s("eve") == 0


def test_patience_comes_back_with_time(clock: FakeClock) -> None:
    throttle = failing(clock, 3)

    clock.ahead_s = 10

    assert throttle.wait_s("bob") == 0
    throttle.failed("bob")
    assert throttle.wait_s("bob") == 10


def test_success_forgives(clock: FakeClock) -> None:
    throttle = failing(clock, 3)

    throttle.forgive("bob")

    assert throttle.wait_s("bob") == 0


def test_failure_that_was_none_is_taken_back(clock: FakeClock) -> None:
    throttle = failing(clock, 3)

    throttle.forgive_one("bob")
    throttle.forgive_one("eve")

    assert throttle.wait_s("bob") == 0
    throttle.failed("bob")
    assert throttle.wait_s("bob") == 10


def test_memory_is_bounded_and_keeps_who_failed_last(clock: FakeClock) -> None:
    throttle = Throttle(LIMIT, clock, max_names=10)

    for number in range(100):
        throttle.failed(str(number))
    for _ in range(3):
        throttle.failed("bob")

    assert len(throttle._name_to_empty_at_s) <= 10
    assert throttle.wait_s("bob") > 0
