"""The bid listeners of a deployment, as the console and the command line know them."""

from typing import NamedTuple


class Listeners(NamedTuple):
    """
    The bid listeners that explain bids.

    Attributes:
        urls: Of their admin ports.
        secret: Their `RTB_EXPLAIN_SECRET`; `None`: not set.
    """

    urls: tuple[str, ...] = ()
    secret: str | None = None
