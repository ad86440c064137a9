"""
So many requests a second for each account, of all its users and tokens together.

Counted in this process's memory: replicas count apart, and a restart forgets. It
is there so that one account's loop does not slow down the others, not to bill.
"""

from segments.doors.rest.auth import Known
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.doors.rest.throttle import Limit, Throttle


class RateLimit:
    """Admits callers, as fast as each account may be."""

    def __init__(self, services: Services) -> None:
        """
        Args:
            services: The limits and the time.
        """
        options = services.options
        limit = Limit(options.requests_burst, options.requests_per_s)
        self._requests = Throttle(limit, services.clock_s)

    def admit(self, caller: Known) -> None:
        """
        Count a request.

        Raises:
            Problem: 429: too many, with when to come again.
        """
        name = "" if caller.account is None else str(caller.account.id)
        wait_s = self._requests.wait_s(name)
        if wait_s:
            raise Problem(
                429, "too many requests of this account", headers={"Retry-After": str(wait_s)}
            )
        self._requests.failed(name)
