from typing import NamedTuple

from segments.runtime.addresses import Proxies


class Limits(NamedTuple):
    """The limits on strangers at a port; apart from the server, for the settings."""

    head_within_s: float = 10.0
    """Of a head, first to last byte, and from a connection to its first head."""

    fetch_within_s: float = 30.0
    """How long a client may leave an answer unread."""

    max_startups: int = 200
    """Strangers' connections; a further one ends the longest waiting."""

    max_startups_per_address: int = 100
    """The same from one address."""

    proxies: Proxies = Proxies()
    """Exempt from the limit of an address."""

    unread_bytes: int = 16 << 10
    """Of a body: with twice as many unread, reading from the network stops."""
