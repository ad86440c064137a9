"""
What the SFTP process counts, for Prometheus: who is there, what came, what was POSTed.

    segments_sftp_connections                       clients connected
    segments_sftp_sessions                          SFTP sessions open
    segments_sftp_logins_total{result}              accepted; refused: gone without having logged
                                                    in; turned_away: too many were connected
    segments_sftp_requests_total{operation,result}  ok, refused; of reading and writing only
                                                    what was refused
    segments_sftp_received_bytes_total              written to files
    segments_sftp_sent_bytes_total                  read from files
    segments_sftp_uploads_total{result}             finished, broken_off, abandoned: nobody came
                                                    back for it, and it was swept
    segments_callbacks_total{result}                delivered, postponed, given_up, not_allowed

Answers to deliveries are counted where they are given: `segments.doors.live_audience.metrics`.

No partner, file, address or key is a label: there are too many of each, and
they are nobody's business.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge

OK = "ok"
REFUSED = "refused"
ACCEPTED = "accepted"

LOGINS = (ACCEPTED, REFUSED, "turned_away")
OPERATIONS = ("open", "list", "stat", "rename", "remove")
UPLOADS = ("finished", "broken_off", "abandoned")
CALLBACKS = ("delivered", "postponed", "given_up", "not_allowed")


class SftpProcessMetrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

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
        self._uploads = counter("segments_sftp_uploads", "Files that clients wrote.", "result")
        self._callbacks = counter("segments_callbacks", "Statuses POSTed to partners.", "result")
        self._show_zeros()

    def login(self, result: str) -> None:
        """Count a client that came, by what became of it."""
        self._logins.labels(result).inc()

    def request(self, operation: str, result: str) -> None:
        """Count something that a client asked for."""
        self._requests.labels(operation, result).inc()

    def upload(self, result: str) -> None:
        """Count a file that a client wrote, by how that ended."""
        self._uploads.labels(result).inc()

    def callback(self, result: str) -> None:
        """Count an attempt to POST a status."""
        self._callbacks.labels(result).inc()

    def _show_zeros(self) -> None:
        """Show what has not happened yet as 0, or its first time would be no increase."""
        for result in LOGINS:
            self._logins.labels(result)
        for operation in OPERATIONS:
            for result in (OK, REFUSED):
                self._requests.labels(operation, result)
        for result in UPLOADS:
            self._uploads.labels(result)
        for result in CALLBACKS:
            self._callbacks.labels(result)
