"""The operator's options for the SFTP server."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SftpOptions:
    """The server's settings; `segments.settings` documents each."""

    host: str
    """The listener's address."""

    port: int
    """The port; 0 takes a free port."""

    key_dir: Path
    """The directory of the host keys."""

    max_startups: int
    """Maximum connections without a login."""

    max_startups_per_address: int
    """The same per address."""

    max_sessions: int
    """Maximum connections with a login, of all partners."""

    max_sessions_per_partner: int
    """Maximum connections per partner; the same for SFTP sessions."""

    max_file_bytes: int
    """Maximum size of a file."""

    reserve_bytes: int | None
    """The reserve of the drop folder's disk: see `segments.files.disk`."""

    max_handles: int
    """Maximum open files of a session; the same for listings."""
