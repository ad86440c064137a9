"""
Authentication, shared by all REST doors.

A `Scheme` finds no credentials of its kind, or the caller, or invalid credentials. Of a door's
schemes, the first that finds credentials decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import hdrs, web

from segments.doors.rest.problem import NotAuthenticated
from segments.model.account import Account


@dataclass(frozen=True)
class Caller:
    """An authenticated caller, and its account."""

    account: Account
    who: str  # the user's or the token's public id: for the ledger, not for answers


class Known(Protocol):
    """An authenticated caller, in the form for a scheme's doors."""

    @property
    def account(self) -> Account | None:
        """The account that it acts for; `None`: no particular one, as an operator's token."""


class Scheme(Protocol):
    """A way to authenticate."""

    name: str
    """The scheme's name in the OpenAPI document."""

    openapi: Mapping[str, Any]
    """The scheme's Security Scheme Object."""

    async def caller(self, request: web.Request) -> Known | None:
        """
        Return the caller in the form for the doors' operations, usually a `Caller`; `None` without
        credentials of this kind.

        Raises:
            NotAuthenticated: The credentials are not valid, or no longer.
        """


async def authenticate(request: web.Request, schemes: Sequence[Scheme]) -> Known:
    """
    Return the caller, by the first scheme that finds credentials.

    Raises:
        NotAuthenticated: No scheme finds any.
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
