"""The operator's options for the Audience API."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudienceOptions:
    """The door's settings; `segments.settings` documents each."""

    expected_ids: int
    """Persons for whom a new store is laid out."""

    upload_url_s: int
    """Validity of an upload URL."""

    upload_max_bytes: int
    """Maximum size of a file sent to an upload URL."""

    upload_cors_origins: tuple[str, ...]
    """Origins of pages that may PUT to an upload URL."""
