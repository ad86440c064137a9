"""
What comes of deliveries, counted for Prometheus: of the files, and of what they say.

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
    """The counters of one process, shown with what else `registry` shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._deliveries = Counter(
            "segments_deliveries", "Answers to deliveries.", ("answer", "code"), registry=registry
        )
        self._uploads = Counter(
            "segments_sftp_uploads", "Files that clients wrote.", ("result",), registry=registry
        )
        # What has not happened yet is 0, or its first time would be no increase.
        for result in UPLOADS:
            self._uploads.labels(result)
        for answer, well in _ANSWER_TO_WELL.items():
            for code in (well, *range(len(DESCRIPTIONS))):
                self._deliveries.labels(answer, code)

    def upload(self, result: str) -> None:
        """Count a file that a client wrote, by how that ended."""
        self._uploads.labels(result).inc()

    def first(self, refused: StopReason | None) -> None:
        """Count the answer to a metadata file; no reason is an acceptance."""
        self._count(_FIRST, refused)

    def last(self, stop: StopReason | None) -> None:
        """Count the answer to a delivery that has been processed, or can't be."""
        self._count(_LAST, stop)

    def _count(self, answer: str, reason: StopReason | None) -> None:
        code = _ANSWER_TO_WELL[answer] if reason is None else code_of(reason)
        self._deliveries.labels(answer, code).inc()
