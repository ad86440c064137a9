"""The operator's options for the drop folders."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DropOptions:
    """The drop folders' settings; `segments.settings` documents each."""

    wait_s: float
    quiet_s: float
    abandoned_after_s: float
    refused_file_s: float
    answers_kept_s: float
