"""The operator's options for all REST doors."""

from dataclasses import dataclass

from segments.runtime.addresses import Proxies


@dataclass(frozen=True, slots=True)
class RestOptions:
    """The doors' common settings; `segments.settings` documents each."""

    public_url: str | None
    """The URL of the doors for callers; `None`: as the request addressed us."""

    token_s: int
    """Validity of an access token."""

    refresh_s: float
    """How long a login can be refreshed without the password."""

    requests_per_s: float
    """Sustained rate of an account."""

    requests_burst: int
    """How many requests an account may make at once before that rate applies."""

    proxies: Proxies
    """Proxies whose `X-Forwarded-For` is trusted."""

    opt_out_wait_s: float
    """The longest wait for a loader's change that this process can't make."""
