"""The operator's options for the Privacy Management API."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PrivacyOptions:
    """The door's settings; `segments.settings` documents each."""

    audience: str
    """Required `aud` of a JWT at the legacy doors."""

    callback_hosts: tuple[str, ...]
    """Hosts that callbacks may go to."""

    opt_out_wait_s: float
    """The longest wait of a request until its opt-outs are in the store."""

    report_url_s: int
    """Validity of the URL of an access request's report."""

    report_days: int
    """How long such a report is kept."""
