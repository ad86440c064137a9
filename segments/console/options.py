"""The console's own share of the settings."""

from typing import NamedTuple
from urllib.parse import urlsplit

from segments.upkeep.opt_out_flood import FloodLimits


class UnsafeConsole(Exception):
    """The console would send cookies and passwords in clear; the message names the settings."""


class ConsoleOptions(NamedTuple):
    """
    Where the console listens, its URL, and limits.

    `staff_port` has the pages of operators and privacy desks apart; `public_url` is the browsers'
    URL, if not the socket's; `is_tls`: the sockets speak TLS.
    """

    host: str
    port: int
    staff_port: int | None
    public_url: str | None
    is_tls: bool
    upload_max_bytes: int = 5 << 30  # of a file that a page sends
    api_url: str | None = None  # of the REST doors, as partners call them
    flood: FloodLimits = FloodLimits(10.0, 1000)

    @property
    def is_secure(self) -> bool:
        """Whether browsers come by https."""
        return self.is_tls or (self.public_url or "").startswith("https://")

    @property
    def public_origin(self) -> str | None:
        """The origin of `public_url`, as a browser sends it."""
        if self.public_url is None:
            return None
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}".lower()

    def check(self) -> None:
        """
        Refuse an address that other machines reach without TLS.

        Raises:
            UnsafeConsole: Not loopback, without TLS and without a proxy that ends TLS.
        """
        if self.host not in LOOPBACK and not self.is_secure:
            raise UnsafeConsole(
                f"SEGMENTS_CONSOLE_HOST={self.host}: passwords would come in clear; set"
                " SEGMENTS_CONSOLE_TLS_CERT and SEGMENTS_CONSOLE_TLS_KEY, or, behind a proxy that"
                " ends TLS, SEGMENTS_CONSOLE_PUBLIC_URL=https://..."
            )


LOOPBACK = ("127.0.0.1", "::1", "localhost")
