"""The operator's options for all REST doors."""

from dataclasses import dataclass

from segments.runtime.addresses import Proxies


@dataclass(frozen=True, slots=True)
class RestOptions:
    """The doors' common settings; `segments.settings` documents each."""

    public_url: str | None
    """The URL of the doors for callers; `None`: as the request addressed us."""

    token_s: int
    refresh_s: float
    requests_per_s: float
    requests_burst: int
    proxies: Proxies
    opt_out_wait_s: float
