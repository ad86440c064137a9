"""
Prometheus metrics of the REST process: operations of each door, by result.

    segments_api_requests_total{door,operation,status}      status: 2xx, 4xx, 5xx
    segments_api_refusals_total{door,operation,reason}      not_authenticated, forbidden, throttled
    segments_api_received_bytes_total{door,operation}       bodies, including uploads
    segments_api_seconds{door,operation}                    from the head of a request to its answer
    segments_api_in_flight                                  requests in progress, including uploads
    segments_bucket_files_total{result}                     put into the bucket by its own URLs:
                                                            taken, too_large, put_twice
    segments_opt_outs_waiting, segments_opt_outs_oldest_seconds
                                                            see waiting_opt_outs.py

A failed login is `refusals{operation="login",reason="not_authenticated"}`; without a check,
`throttled`. A stored upload is `requests{operation="upload",status="2xx"}`.

Labels are names in our code, never of a user, partner, audience, file, path or address. Outside all
doors (unknown paths, `/openapi.json`, health), door and operation are `none`.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_NONE = ("none", "none")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)
_STATUS_TO_REASON = {401: "not_authenticated", 403: "forbidden", 429: "throttled"}
BUCKET_FILES = ("taken", "too_large", "put_twice")


class ApiMetrics:
    """A process's counters."""

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

        `operation` is door and operation, `None` outside all doors; `seconds` last from the head to
        the answer.
        """
        which = operation or _NONE
        self._requests.labels(*which, f"{status // 100}xx").inc()
        reason = _STATUS_TO_REASON.get(status)
        if reason is not None:
            self._refusals.labels(*which, reason).inc()
        self._received_bytes.labels(*which).inc(received_bytes)
        self._seconds.labels(*which).observe(seconds)

    def bucket_file(self, result: str) -> None:
        """Count a file found in the bucket, by its result."""
        self._bucket_files.labels(result).inc()
