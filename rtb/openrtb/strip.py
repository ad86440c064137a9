"""
Taking out what was put in for us alone.

Hashed e-mail addresses stand in a request so that we can look them up; no
bidder is to see them. They go whatever the outcome: a request that times out
carries them as well as one that is enriched.

We read JSON as most do: of two members of one name the later counts, and a path
leads through objects only. Whoever reads otherwise would find what we passed
over: `{"user":{"ext":{"hashes":...}},"user":{}}`. A request that holds such a
thing is malformed (RFC 8259, 4: names SHOULD be unique, and what becomes of those
that are not is "unpredictable"), and does not leave at all. To see that there
is none costs a usual bid a search for the last name of each path, a seventh of
its decoding; only a request in which that name still stands is read as a whole.
"""

import re

from rtb.openrtb.copies import UnreadableJson, led_to, pairs_of
from rtb.openrtb.decode import Decoder, Read
from rtb.openrtb.request import Request
from rtb.openrtb.splice import replaced, without
from rtb.openrtb.views import ABSENT
from rtb.outcome import MalformedRequest, Reason

_PLAIN = re.compile(r"[0-9A-Za-z_.-]+")
"""Paths whose names nobody has a reason to escape."""


class Strip:
    """
    The configured paths, compiled.

    Args:
        decoder: Whose `strip_paths` they are.
    """

    def __init__(self, decoder: Decoder) -> None:
        paths = decoder.strip_paths
        self._decoder = decoder
        self._paths: list[tuple[str, tuple[str, ...], Read]] = [
            (path, tuple(path.split(".")), decoder.reader(path)[0]) for path in paths
        ]
        self._is_plain = all(map(_PLAIN.fullmatch, paths))
        last_names = [names[-1] for _, names, _ in self._paths]
        self._quoted = tuple({f'"{name}"'.encode() for name in last_names})
        self._codes = {
            code
            for char in "".join(last_names)
            for code in (b"%02x" % ord(char), b"%02X" % ord(char))
        }

    def __call__(self, request: Request) -> tuple[Request, tuple[str, ...]]:
        """
        Take out of a request what may not leave.

        Returns:
            The request as it leaves, itself if there is nothing to take out,
            and the paths that led to something.

        Raises:
            MalformedRequest: There is something to take out that can't be.
            RecursionError: Nested too deep to be taken apart.
        """
        stripped: tuple[str, ...] = ()
        if request.is_scanned:
            return request, stripped
        for path, names, read in self._paths:
            if request.copies is not None:
                is_there = any(found is not None for found in led_to(request.copies, names))
            else:
                value = read(request)
                # None is the default of a member that a view has anyway; so is null.
                is_there = value is not ABSENT and value is not None
            if is_there:
                leaving = self._without(request, names)
                if leaving is not request:
                    request = leaving
                    stripped = (*stripped, path)
        if self._paths and self._may_hold_more(request.body) and self._holds_more(request.body):
            raise MalformedRequest(Reason.UNSTRIPPABLE)
        return request, stripped

    def _may_hold_more(self, body: bytes) -> bool:
        """Tell, cheaply, whether the last name of a path may still stand there as a name."""
        for quoted in self._quoted:
            if body.rfind(quoted) >= 0:  # a third of what `in` takes, on Python 3.11
                return True
        if not self._is_plain:
            return True
        return b"\\" in body and self._escapes_letter(body)

    def _escapes_letter(self, body: bytes) -> bool:
        r"""
        Tell whether a letter of the names is spelt as `\u00..`.

        Nobody does so; what encoders escape, for HTML, is none of the letters.
        """
        at = body.rfind(b"\\u00")
        while at >= 0:
            if body[at + 4 : at + 6] in self._codes:
                return True
            at = body.rfind(b"\\u00", 0, at)
        return False

    def _holds_more(self, body: bytes) -> bool:
        """Tell whether a path still leads to something, whichever of equal names is followed."""
        try:
            members = pairs_of(body)
        except UnreadableJson:
            return True  # what can't be read so, can't be known to hold nothing
        return any(
            found is not None for _, names, _ in self._paths for found in led_to(members, names)
        )

    def _without(self, request: Request, names: tuple[str, ...]) -> Request:
        body = request.body
        if names[0] != "user" or len(names) == 1:
            changed = without(body, names)
            return request if changed is body else self._decoder(changed)
        # The user is at hand, so only its part of the body is taken apart.
        user = request.user_raw
        changed = without(user, names[1:])
        if changed is user:
            return request
        return self._decoder.with_user(request, replaced(body, "user", user, changed), changed)
