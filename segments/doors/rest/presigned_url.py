"""
Presigned URLs: AWS Signature Version 4 in its query form.

    PUT <base>/uploads/add/<key>/<file>?x-amz-meta-...&X-Amz-Date=...&X-Amz-Signature=...

The signature covers the whole URL and the host; the body, not known yet, is not signed. The result
equals an S3 client's: the tests compare it with botocore. Section names are those of
"Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
REGION = "us-east-1"
SERVICE = "s3"
MAX_AHEAD_S = 900
"""How far another replica's clock may be ahead of ours."""

_UNRESERVED = "-_.~"
_TIME = "%Y%m%dT%H%M%SZ"
_SIGNED = "X-Amz-Signature"

Query = list[tuple[str, str]]
"""Decoded names and values, in the URL's order."""


class SigningKey(NamedTuple):
    """An AWS access key."""

    access_key_id: str
    secret: str


class Refused(Exception):
    """The URL does not permit the request, or no longer; the message says why."""


def signed_url(
    method: str,
    base_url: str,
    path: str,
    parameters: Mapping[str, str],
    key: SigningKey,
    *,
    now_s: float,
    expires_in_s: int,
) -> str:
    """
    Return a URL that permits a method on a path for some time.

    `base_url` is scheme and host, and a path before `path`, which is decoded. `now_s` starts the
    validity, `expires_in_s` is its length.
    """
    at = datetime.fromtimestamp(now_s, UTC).strftime(_TIME)
    base = urlsplit(base_url)
    raw_path = base.path + quote(path, safe="/" + _UNRESERVED)
    query: Query = [
        *parameters.items(),
        ("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"),
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", f"{key.access_key_id}/{_scope(at)}"),
        ("X-Amz-Date", at),
        ("X-Amz-SignedHeaders", "host"),
        ("X-Amz-Expires", str(expires_in_s)),
    ]
    signature = _signature(method, base.netloc, raw_path, query, at=at, secret=key.secret)
    said = "&".join(f"{_quote(name)}={_quote(value)}" for name, value in query)
    return f"{base.scheme}://{base.netloc}{raw_path}?{said}&{_SIGNED}={signature}"


def check(method: str, host: str, target: str, key: SigningKey, *, now_s: float) -> None:
    """
    Check the signature and validity of a request's URL.

    `host` (with port) and `target` (raw path and query) are as in the client's URL.

    Raises:
        Refused: The URL does not permit the request.
    """
    raw_path, _, raw_query = target.partition("?")
    query = _parsed(raw_query)
    said = dict(query)
    if len(said) != len(query):
        raise Refused("a parameter stands there twice")
    signature = said.pop(_SIGNED, None)
    if signature is None:
        raise Refused("the URL is not signed")
    at, credential = said.get("X-Amz-Date", ""), said.get("X-Amz-Credential", "")
    is_ours = hmac.compare_digest(
        _signature(method, host, raw_path, said.items(), at=at, secret=key.secret).encode(),
        signature.encode("utf-8", "replace"),
    )
    # We wrote the other parameters, if the signature is right.
    if not is_ours or credential != f"{key.access_key_id}/{_scope(at)}":
        raise Refused("the signature does not match the URL, the method and the host")
    begins_s = datetime.strptime(at, _TIME).replace(tzinfo=UTC).timestamp()
    if now_s >= begins_s + int(said["X-Amz-Expires"]):
        raise Refused("the URL has expired")
    if begins_s > now_s + MAX_AHEAD_S:
        raise Refused("the URL is not good yet")


def _signature(
    method: str, host: str, raw_path: str, query: Iterable[tuple[str, str]], *, at: str, secret: str
) -> str:
    canonical_request = "\n".join(
        (
            method,
            quote(unquote(raw_path), safe="/" + _UNRESERVED),
            "&".join(sorted(f"{_quote(name)}={_quote(value)}" for name, value in query)),
            f"host:{host}\n",
            "host",
            "UNSIGNED-PAYLOAD",
        )
    )
    hashed = hashlib.sha256(canonical_request.encode("utf-8", "replace")).hexdigest()
    string_to_sign = f"{ALGORITHM}\n{at}\n{_scope(at)}\n{hashed}"
    signing_key = f"AWS4{secret}".encode()
    for part in (*_scope(at).split("/"), string_to_sign):
        signing_key = hmac.digest(signing_key, part.encode("utf-8", "replace"), "sha256")
    return signing_key.hex()


def _scope(at: str) -> str:
    return f"{at[:8]}/{REGION}/{SERVICE}/aws4_request"


def _parsed(raw_query: str) -> Query:
    pairs = (pair.partition("=") for pair in raw_query.split("&") if pair)
    # A plus is literal, not a space as in forms.
    return [(unquote(name), unquote(value)) for name, _, value in pairs]


def _quote(text: str) -> str:
    return quote(text, safe=_UNRESERVED)
