"""What an operator sets of the Privacy Management API."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PrivacyOptions:
    """This door's share of the settings; `segments.settings` says what each is for."""

    audience: str
    """What the `aud` of a JWT of the legacy doors must be."""

    callback_hosts: tuple[str, ...]
    """Hosts to which a status may be POSTed."""

    opt_out_wait_s: float
    """How long a request waits for the store to have its opt-outs."""

    report_url_s: int
    """For how long the URL of an access request's report is good."""

    report_days: int
    """For how long such a report is kept."""
