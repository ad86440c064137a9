"""The operator's options for the SFTP server."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SftpOptions:
    """The server's settings; `segments.settings` documents each."""

    host: str
    port: int
    key_dir: Path
    max_startups: int
    max_startups_per_address: int
    max_sessions: int
    max_sessions_per_partner: int
    max_file_bytes: int
    reserve_bytes: int | None
    """The reserve of the drop folder's disk: see `segments.files.disk`."""

    max_handles: int
