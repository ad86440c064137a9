"""What an operator sets of the drop folder."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DropOptions:
    """The drop's share of the settings; `segments.settings` says what each is for."""

    wait_s: float
    """How long a metadata file waits for its data file."""

    quiet_s: float
    """After how long without a write a file that did not come by our SFTP server is complete."""

    abandoned_after_s: float
    """After how long an upload that was never finished is deleted."""

    refused_file_s: float
    """For how long a data file stays that was refused for its metadata."""

    answers_kept_s: float
    """For how long a `.status` file stays."""
