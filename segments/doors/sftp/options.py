"""What an operator sets of the SFTP server."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SftpOptions:
    """The server's share of the settings; `segments.settings` says what each is for."""

    host: str
    """The address that it listens on."""

    port: int
    """The port; 0 takes a free one."""

    key_dir: Path
    """Where its host keys are kept."""

    max_startups: int
    """How many connections there may be that have not logged in."""

    max_startups_per_address: int
    """How many of them from one address."""

    max_sessions: int
    """How many connections that have logged in it holds at a time, of all partners."""

    max_sessions_per_partner: int
    """How many connections, and how many SFTP sessions, one partner may have open."""

    max_file_bytes: int
    """How large a file may become."""

    max_handles: int
    """How many files one session may hold open, and as many listings."""
