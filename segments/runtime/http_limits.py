"""Limits on strangers at an HTTP port, apart from the server for the settings."""

from typing import NamedTuple

from segments.runtime.addresses import Proxies


class Limits(NamedTuple):
    """The limits on strangers at a port."""

    head_within_s: float = 10.0
    """Of a head, first to last byte, and from a connection to its first head."""

    fetch_within_s: float = 30.0
    """How long a client may leave an answer unread."""

    max_startups: int = 200
    """Strangers' connections; a further connection ends the longest waiting."""

    max_startups_per_address: int = 100
    """The same from one address."""

    proxies: Proxies = Proxies()
    """They stand for many clients, so the limit of an address does not apply."""

    unread_bytes: int = 16 << 10
    """Of a body: with twice as many unread, reading from the network stops."""
