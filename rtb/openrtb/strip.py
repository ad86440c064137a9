"""
Taking out what was put in for us alone.

Hashed e-mail addresses stand in a request so that we can look them up; no
bidder is to see them. They go whatever the outcome: a request that times out
carries them as well as one that is enriched.
"""

from collections.abc import Sequence

from msgspec import Raw

from rtb.openrtb.decode import Decoder, Read
from rtb.openrtb.request import Request
from rtb.openrtb.splice import replaced, without
from rtb.openrtb.views import ABSENT


class Strip:
    """
    The configured paths, compiled.

    Args:
        paths: Dotted names from the top of the request, through objects only.
        decoder: Made with these paths.
    """

    def __init__(self, paths: Sequence[str], decoder: Decoder) -> None:
        self._decoder = decoder
        self._paths: list[tuple[str, tuple[str, ...], Read]] = [
            (path, tuple(path.split(".")), decoder.reader(path)[0]) for path in paths
        ]

    def __call__(self, request: Request) -> tuple[Request, tuple[str, ...]]:
        """
        Take out of a request what may not leave.

        Returns:
            The request as it leaves, itself if there is nothing to take out,
            and the paths that led to something.

        Raises:
            RecursionError: Nested too deep to be taken apart.
        """
        stripped: tuple[str, ...] = ()
        for path, names, read in self._paths:
            value = read(request)
            # None is the default of a member that a view has anyway; so is null.
            if value is not ABSENT and value is not None:
                leaving = self._without(request, names)
                if leaving is not request:
                    request = leaving
                    stripped = (*stripped, path)
        return request, stripped

    def _without(self, request: Request, names: tuple[str, ...]) -> Request:
        body = request.body
        if names[0] != "user" or len(names) == 1:
            changed = without(body, names)
            return request if changed is body else self._decoder(changed)
        # The user is at hand, so only its part of the body is taken apart.
        user = bytes(request.user_raw)
        changed = without(user, names[1:])
        if changed is user:
            return request
        return self._decoder.with_user(request, replaced(body, "user", user, changed), Raw(changed))
