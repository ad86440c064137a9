"""The operator's options for the drop folders."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DropOptions:
    """The drop folders' settings; `segments.settings` documents each."""

    wait_s: float
    """How long a metadata file waits for its data file."""

    quiet_s: float
    """Time without a write after which a file not from our SFTP server is complete."""

    abandoned_after_s: float
    """Time after which an unfinished upload is deleted."""

    refused_file_s: float
    """How long a data file stays after a refusal for its metadata."""

    answers_kept_s: float
    """How long a `.status` file stays."""
