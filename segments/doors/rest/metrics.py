"""
What the REST process counts, for Prometheus: each door's operations, by how they end.

    segments_api_requests_total{door,operation,status}      status: 2xx, 4xx, 5xx
    segments_api_refusals_total{door,operation,reason}      not_authenticated, forbidden, throttled
    segments_api_received_bytes_total{door,operation}       bodies, uploads among them
    segments_api_seconds{door,operation}                    from the head of a request to its answer
    segments_api_in_flight                                  requests under way, uploads among them
    segments_bucket_files_total{result}                     put into the bucket by its own URLs:
                                                            taken, too_large, put_twice
    segments_opt_outs_waiting, segments_opt_outs_oldest_seconds
                                                            see waiting_opt_outs.py

A login that failed is `refusals{operation="login",reason="not_authenticated"}`,
one that was not even looked at `reason="throttled"`. An upload that was kept is
`requests{operation="upload",status="2xx"}`, one that broke off or was refused 4xx.

Doors and operations are named in our code, so there are few of each. No user,
partner, audience, file, path or address is a label. What no door has (unknown
paths, `/openapi.json`, health) counts under door and operation `none`.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_NONE = ("none", "none")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)
_STATUS_TO_REASON = {401: "not_authenticated", 403: "forbidden", 429: "throttled"}
BUCKET_FILES = ("taken", "too_large", "put_twice")


class ApiMetrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        which = ("door", "operation")
        self._requests = Counter(
            "segments_api_requests", "Requests answered.", (*which, "status"), registry=registry
        )
        self._refusals = Counter(
            "segments_api_refusals", "Who may not.", (*which, "reason"), registry=registry
        )
        self._received_bytes = Counter(
            "segments_api_received_bytes", "Of bodies.", which, registry=registry
        )
        self._seconds = Histogram(
            "segments_api_seconds", "Until answered.", which, registry=registry, buckets=_SECONDS
        )
        self.in_flight = Gauge("segments_api_in_flight", "Requests under way.", registry=registry)
        self._bucket_files = Counter(
            "segments_bucket_files", "Files in the bucket.", ("result",), registry=registry
        )
        for result in BUCKET_FILES:
            self._bucket_files.labels(result)

    def answered(
        self,
        operation: tuple[str, str] | None,
        status: int,
        *,
        received_bytes: int,
        seconds: float,
    ) -> None:
        """
        Count a request.

        Args:
            operation: The door's name and the operation's; `None` if it was for none.
            status: Of the answer.
            received_bytes: Of its body.
            seconds: From its head to its answer.
        """
        which = operation or _NONE
        self._requests.labels(*which, f"{status // 100}xx").inc()
        reason = _STATUS_TO_REASON.get(status)
        if reason is not None:
            self._refusals.labels(*which, reason).inc()
        self._received_bytes.labels(*which).inc(received_bytes)
        self._seconds.labels(*which).observe(seconds)

    def bucket_file(self, result: str) -> None:
        """Count a file that was found in the bucket, by what became of it."""
        self._bucket_files.labels(result).inc()
