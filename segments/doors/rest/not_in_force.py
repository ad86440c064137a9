"""The answer to a request that is recorded but not in force: see `segments.projection.in_force`."""

from typing import Any

from aiohttp import hdrs

from segments.doors.rest.problem import Problem
from segments.projection.in_force import RETRY_AFTER_S


class NotInForceYet(Problem):
    """
    The request is recorded, but bids may not obey it yet.

    Args:
        why: The cause of the delay.
        members: Extension members besides `errorCode`.
    """

    def __init__(self, why: str, **members: Any) -> None:
        super().__init__(
            503,
            f"recorded for good, and not in force yet: {why}. It is in force as soon as that"
            " passes; repeat the request to learn whether it is",
            headers={str(hdrs.RETRY_AFTER): str(RETRY_AFTER_S)},
            errorCode="NOT_IN_FORCE_YET",
            **members,
        )
