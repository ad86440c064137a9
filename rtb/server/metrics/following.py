"""A follower's progress as metrics, where the store is the pod's own."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from segments.runtime.follow_status import FollowEvent, FollowStatus


def followed(status: FollowStatus, now_s: float, monotonic_s: float) -> Iterator[Metric]:
    """
    Yield the metrics.

    Args:
        status: As the follower wrote it.
        now_s: Unix time.
        monotonic_s: The machine's monotonic clock.
    """
    for name, text, value in (
        (
            "rtb_follow_age_seconds",
            "Age of the followed data; infinite without any.",
            status.age_s(now_s, monotonic_s),
        ),
        (
            "rtb_follow_max_age_seconds",
            "Age beyond which bids pass through.",
            status.max_age_s,
        ),
        ("rtb_follow_number", "Of the state that the store has.", status.number),
        (
            "rtb_follow_opt_outs",
            "The ledger's number of the last opt-out that the store has.",
            status.opt_outs,
        ),
        (
            "rtb_follow_applied_seconds",
            "From reading LATEST to the store's having its state, at the last change.",
            status.applied_in_s,
        ),
    ):
        yield GaugeMetricFamily(name, text, value=value)
    events = CounterMetricFamily("rtb_follow_events", "Events of the follower.", labels=("event",))
    for event in FollowEvent:
        events.add_metric((event,), status.events.get(event, 0))
    yield events
