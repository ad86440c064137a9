"""
What the SFTP server counts, for Prometheus: who is there, and what clients ask for.

    segments_sftp_connections                       clients connected
    segments_sftp_sessions                          SFTP sessions open
    segments_sftp_logins_total{result}              accepted; refused: gone without having logged
                                                    in; turned_away: too many were connected
    segments_sftp_requests_total{operation,result}  ok, refused; of reading and writing only
                                                    what was refused
    segments_sftp_received_bytes_total              written to files
    segments_sftp_sent_bytes_total                  read from files

What became of the files is counted with the folder: `segments.doors.live_audience.metrics`.

No partner, file, address or key is a label: there are too many of each, and
they are nobody's business.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge

OK = "ok"
REFUSED = "refused"
ACCEPTED = "accepted"

LOGINS = (ACCEPTED, REFUSED, "turned_away")
OPERATIONS = ("open", "list", "stat", "rename", "remove")


class SftpMetrics:
    """The counters of one process, shown with what else `registry` shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(name, what, labels, registry=registry)

        self.connections = Gauge("segments_sftp_connections", "Clients.", registry=registry)
        self.sessions = Gauge("segments_sftp_sessions", "SFTP sessions.", registry=registry)
        self._logins = counter("segments_sftp_logins", "Clients that came.", "result")
        self._requests = counter(
            "segments_sftp_requests", "What clients asked for.", "operation", "result"
        )
        self.received_bytes = counter("segments_sftp_received_bytes", "Bytes written.")
        self.sent_bytes = counter("segments_sftp_sent_bytes", "Bytes read.")
        # What has not happened yet is 0, or its first time would be no increase.
        for result in LOGINS:
            self._logins.labels(result)
        for operation in OPERATIONS:
            for result in (OK, REFUSED):
                self._requests.labels(operation, result)

    def login(self, result: str) -> None:
        """Count a client that came, by what became of it."""
        self._logins.labels(result).inc()

    def request(self, operation: str, result: str) -> None:
        """Count something that a client asked for."""
        self._requests.labels(operation, result).inc()
