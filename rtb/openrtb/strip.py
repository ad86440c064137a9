"""
Removes input-only fields from the request.

Hashed e-mail addresses are for our lookup; bidders must not see them. They are removed whatever the
outcome.

For us, as for most parsers, the last of duplicate members counts, and paths lead through objects
only. Others would find hashes that we miss: `{"user":{"ext":{"hashes":...}},"user":{}}`. Such a
request is malformed (RFC 8259, 4: duplicate names are "unpredictable"), and never leaves. The
check, a search for each path's last name, costs a seventh of decoding; only a body that may still
have such a name is parsed completely.
"""

import re

from rtb.openrtb.copies import UnreadableJson, led_to, pairs_of
from rtb.openrtb.decode import Decoder, Read
from rtb.openrtb.request import Request
from rtb.openrtb.splice import replaced, without
from rtb.openrtb.views import ABSENT
from rtb.outcome import MalformedRequest, Reason

_PLAIN = re.compile(r"[0-9A-Za-z_.-]+")
"""Paths whose names senders have no reason to escape."""


class Strip:
    """
    The configured paths, compiled.

    Args:
        decoder: The decoder with the `strip_paths`.
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
        Remove input-only fields from a request.

        Returns:
            The request as it leaves, perhaps itself, and the removed paths.

        Raises:
            MalformedRequest: A field to remove can't be removed.
            RecursionError: Nested too deep.
        """
        stripped: tuple[str, ...] = ()
        if request.is_scanned:
            return request, stripped
        for path, names, read in self._paths:
            if request.copies is not None:
                is_there = any(found is not None for found in led_to(request.copies, names))
            else:
                value = read(request)
                # None: missing in a view, or null.
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
        """Tell cheaply whether the body may still have a path's last name."""
        for quoted in self._quoted:
            if body.rfind(quoted) >= 0:  # on Python 3.11, a third of the time of `in`
                return True
        if not self._is_plain:
            return True
        return b"\\" in body and self._escapes_letter(body)

    def _escapes_letter(self, body: bytes) -> bool:
        r"""
        Tell whether a name's letter is spelled `\u00..`.

        Encoders escape some characters for HTML, but no letters.
        """
        at = body.rfind(b"\\u00")
        while at >= 0:
            if body[at + 4 : at + 6] in self._codes:
                return True
            at = body.rfind(b"\\u00", 0, at)
        return False

    def _holds_more(self, body: bytes) -> bool:
        """Tell whether a path leads to a value, through any copy."""
        try:
            members = pairs_of(body)
        except UnreadableJson:
            return True  # an unparsable body may contain anything
        return any(
            found is not None for _, names, _ in self._paths for found in led_to(members, names)
        )

    def _without(self, request: Request, names: tuple[str, ...]) -> Request:
        body = request.body
        if names[0] != "user" or len(names) == 1:
            changed = without(body, names)
            return request if changed is body else self._decoder(changed)
        # Split only the user's known bytes.
        user = request.user_raw
        changed = without(user, names[1:])
        if changed is user:
            return request
        return self._decoder.with_user(request, replaced(body, "user", user, changed), changed)
