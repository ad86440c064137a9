"""What an operator sets of the Audience API."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudienceOptions:
    """This door's share of the settings; `segments.settings` says what each is for."""

    expected_ids: int
    """How many persons a new store is laid out for."""

    upload_url_s: int
    """For how long an upload URL is good."""

    upload_max_bytes: int
    """The largest file by an upload URL."""

    upload_cors_origins: tuple[str, ...]
    """Origins of pages that may PUT to an upload URL."""
