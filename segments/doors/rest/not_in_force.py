"""The answer to what is recorded and not in force yet; see `segments.projection.in_force`."""

from typing import Any

from aiohttp import hdrs

from segments.doors.rest.problem import Problem
from segments.projection.in_force import RETRY_AFTER_S


class NotInForceYet(Problem):
    """
    What was asked is in the ledger for good, and bids may not obey yet.

    Args:
        why: What it waits for.
        members: Of the problem, besides `errorCode`.
    """

    def __init__(self, why: str, **members: Any) -> None:
        super().__init__(
            503,
            f"recorded for good, and not in force yet: {why}. It is in force as soon as that"
            " passes; the same request again tells whether it is",
            headers={str(hdrs.RETRY_AFTER): str(RETRY_AFTER_S)},
            errorCode="NOT_IN_FORCE_YET",
            **members,
        )
