"""The operator's options for the Audience API."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudienceOptions:
    """The door's settings; `segments.settings` documents each."""

    expected_ids: int
    upload_url_s: int
    upload_max_bytes: int
    upload_cors_origins: tuple[str, ...]
