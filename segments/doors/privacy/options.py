"""The operator's options for the Privacy Management API."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PrivacyOptions:
    """The door's settings; `segments.settings` documents each."""

    audience: str
    callback_hosts: tuple[str, ...]
    opt_out_wait_s: float
    report_url_s: int
    report_days: int
