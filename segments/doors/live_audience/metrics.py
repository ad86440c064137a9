"""
Prometheus counters of uploads and of answers to deliveries.

    segments_sftp_uploads_total{result}      files that clients wrote: finished, broken_off,
                                             abandoned: never finished, and swept
    segments_deliveries_total{answer,code}   first (accepted, 0-8), last (ok, 0-8);
                                             codes as in the `.status` file
"""

from prometheus_client import CollectorRegistry, Counter

from segments.doors.live_audience.codes import DESCRIPTIONS, code_of
from segments.model.stop_reason import StopReason

UPLOADS = ("finished", "broken_off", "abandoned")
_FIRST, _LAST = "first", "last"
_ANSWER_TO_WELL = {_FIRST: "accepted", _LAST: "ok"}


class DeliveryMetrics:
    """The delivery counters, in a process's `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._deliveries = Counter(
            "segments_deliveries", "Answers to deliveries.", ("answer", "code"), registry=registry
        )
        self._uploads = Counter(
            "segments_sftp_uploads", "Files that clients wrote.", ("result",), registry=registry
        )
        # From 0, or the first event is no increase.
        for result in UPLOADS:
            self._uploads.labels(result)
        for answer, well in _ANSWER_TO_WELL.items():
            for code in (well, *range(len(DESCRIPTIONS))):
                self._deliveries.labels(answer, code)

    def upload(self, result: str) -> None:
        """Count an upload, by its result."""
        self._uploads.labels(result).inc()

    def first(self, refused: StopReason | None) -> None:
        """Count the answer to a metadata file; `None` means accepted."""
        self._count(_FIRST, refused)

    def last(self, stop: StopReason | None) -> None:
        """Count the final answer to a delivery; `None` means success."""
        self._count(_LAST, stop)

    def _count(self, answer: str, reason: StopReason | None) -> None:
        code = _ANSWER_TO_WELL[answer] if reason is None else code_of(reason)
        self._deliveries.labels(answer, code).inc()
