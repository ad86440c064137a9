"""
Prometheus metrics of the SFTP server: connections, logins and requests.

    segments_sftp_connections                       clients connected
    segments_sftp_sessions                          SFTP sessions open
    segments_sftp_logins_total{result}              accepted; refused: left without a login;
                                                    turned_away: too many connections
    segments_sftp_requests_total{operation,result}  ok, refused; of reads and writes only
                                                    the refused
    segments_sftp_received_bytes_total              written to files
    segments_sftp_sent_bytes_total                  read from files

Results of uploads: see `segments.doors.live_audience.metrics`. Partners, files, addresses and keys
are no labels: too many, and confidential.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge

OK = "ok"
REFUSED = "refused"
ACCEPTED = "accepted"

LOGINS = (ACCEPTED, REFUSED, "turned_away")
OPERATIONS = ("open", "list", "stat", "rename", "remove")


class SftpMetrics:
    """The SFTP counters, in a process's `registry`."""

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
        # From 0, or the first event is no increase.
        for result in LOGINS:
            self._logins.labels(result)
        for operation in OPERATIONS:
            for result in (OK, REFUSED):
                self._requests.labels(operation, result)

    def login(self, result: str) -> None:
        """Count a client's login attempt, by its result."""
        self._logins.labels(result).inc()

    def request(self, operation: str, result: str) -> None:
        """Count a request of a client."""
        self._requests.labels(operation, result).inc()
