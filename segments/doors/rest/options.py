"""What an operator sets of all REST doors."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestOptions:
    """The doors' common share of the settings; `segments.settings` says what each is for."""

    public_url: str | None
    """How callers reach the doors; none: as the request named us."""

    token_s: int
    """For how long an access token is good."""

    refresh_s: float
    """For how long a login can be refreshed without the password."""

    requests_per_s: float
    """How many requests a second an account may make in the long run."""

    requests_burst: int
    """How many of them at once."""

    opt_out_wait_s: float
    """How long a loader is waited for that puts into force what we can't."""
