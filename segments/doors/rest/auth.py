"""
Who is asking: the part of every REST door that must never be written twice.

A `Scheme` knows one way of saying who one is: it looks at a request, and either
finds nothing of its kind there, or finds the caller, or finds something of its
kind that is wrong. An operation that needs a caller accepts the schemes of its
door, whichever comes first. So a door with another way of login brings a
scheme, and nothing else changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import hdrs, web

from segments.doors.rest.problem import NotAuthenticated
from segments.model.account import Account


@dataclass(frozen=True)
class Caller:
    """Who is asking, and for which account."""

    account: Account
    who: str  # the user's or the token's public id: for the ledger, not for answers


class Known(Protocol):
    """Whoever was authenticated, in whatever form the doors of a scheme want it."""

    @property
    def account(self) -> Account | None:
        """For which account it acts; `None`: for none in particular, as an operator's own."""


class Scheme(Protocol):
    """One way of saying who one is."""

    name: str
    """Under which OpenAPI lists it."""

    openapi: Mapping[str, Any]
    """Its Security Scheme Object."""

    async def caller(self, request: web.Request) -> Known | None:
        """
        Return who asks, as the operations of its doors want it, which is mostly as
        a `Caller`; `None` if the request says nothing of this kind.

        Raises:
            NotAuthenticated: It does, but that is not valid, or not any more.
        """


async def authenticate(request: web.Request, schemes: Sequence[Scheme]) -> Known:
    """
    Return who asks, by the first scheme that knows.

    Raises:
        NotAuthenticated: By none.
    """
    for scheme in schemes:
        caller = await scheme.caller(request)
        if caller is not None:
            return caller
    is_missing = hdrs.AUTHORIZATION not in request.headers
    raise NotAuthenticated(
        "no access token was given" if is_missing else "the access token is of no known kind",
        is_missing=is_missing,
    )


def bearer_token(request: web.Request) -> str | None:
    """Return the token of `Authorization: bearer <token>`, the scheme in any case (RFC 9110)."""
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
