"""
Recipient access: the credentials that a request needs besides the name in its path.

    Authorization: Bearer ...   a token of the recipient; the catalog has their SHA-256
    a client certificate        signed by an authority of `RTB_TLS_CLIENT_CA`, with a name of
                                the recipient in it; without TLS there is none

A recipient may need both; without either, its routes are found without this module. A missing
credential or an unknown token is 401; another recipient's credential is 403.

Digests are compared in constant time. Two `Authorization` lines are no token: a proxy before us may
have checked either.
"""

from hashlib import sha256
from hmac import compare_digest
from typing import Final

from rtb.catalog import Access
from rtb.server.http.request_heads import Head
from rtb.server.http.turn import Asker
from rtb.server.metrics.layout import Refusal

_SCHEME: Final = b"bearer"


def refusal_of(access: Access, head: Head, connection: Asker) -> Refusal | None:
    """Return why a request may not use the recipient; `None`: it may."""
    tokens, names = access.tokens, access.certificate_names
    refusal = None if tokens is None else _token_refusal(tokens, access.every_token, head)
    if refusal is None and names is not None:
        refusal = _certificate_refusal(names, connection)
    return refusal


def _token_refusal(
    tokens: tuple[bytes, ...], every_token: frozenset[bytes], head: Head
) -> Refusal | None:
    token = _bearer_of(head)
    if not token:
        return Refusal.NO_TOKEN
    digest = sha256(token).digest()
    is_ours = False
    for own in tokens:
        is_ours = compare_digest(own, digest) or is_ours
    if is_ours:
        return None
    return Refusal.OTHER_TOKEN if digest in every_token else Refusal.UNKNOWN_TOKEN


def _certificate_refusal(ours: frozenset[str], connection: Asker) -> Refusal | None:
    names = connection.client_names()
    if names is None:
        return Refusal.NO_CERTIFICATE
    return Refusal.OTHER_CERTIFICATE if names.isdisjoint(ours) else None


def _bearer_of(head: Head) -> bytes:
    """Return the bearer token of a head; empty if absent or ambiguous."""
    said = [value for name, value in head.headers.items() if name.lower() == b"authorization"]
    if len(said) != 1:
        return b""
    scheme, _, token = said[0].strip().partition(b" ")
    return token.strip() if scheme.lower() == _SCHEME else b""
