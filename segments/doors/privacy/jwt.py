"""
JWTs of the Privacy API's legacy doors: signed requests.

    header   {"alg": "RS256"}, and no other
    claims   {"iss": "CN=<domain>", "cnf": {"kid": ...},      names the signing key
              "aud": ..., "iat": ..., "nbf"?: ..., "exp": ..., "jti": ...,
              "dsr": {"type": ..., "scope": ..., "identifiers": [...], "target"?: ...}}

Until the signature is verified, only the key's name is used. The algorithm is fixed: an `alg` of
`none`, or an HMAC made with our public key, is no signature.

A request is accepted only once, by `jti` and `dsr` together: LiveIntent's own client signs a file
of persons, line by line, with one `jti`, its starting second. No opt-out is lost to a repeated
`jti`, and without the key, which signs `dsr`, no replay is possible.
"""

import hashlib
import re
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from segments.doors.rest.known_members import unknown_member
from segments.model.day import S_PER_DAY
from segments.model.refusal import Refusal

ALGORITHM = "RS256"
MAX_JWT_CHARS = 200_000
"""A thousand identifiers take a third."""

MAX_LIFETIME_S = 31 * S_PER_DAY
"""Accepted requests are remembered this long, so no JWT may be valid longer."""

CLOCK_SKEW_S = 300
"""How far a signer's clock may be ahead of ours."""

MAX_KEY_BYTES = 1 << 16
_MIN_KEY_BITS = 2048
_ISSUER = "CN="
_MAX_AT_S = 2**53

_UNKNOWN = re.compile(r"unknown field `(?P<name>.*)` - at `(?P<at>[^`]*)`")

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_At = (
    Annotated[int, msgspec.Meta(ge=0, le=_MAX_AT_S)]
    | Annotated[float, msgspec.Meta(ge=0, le=_MAX_AT_S)]
)


class DsrType(StrEnum):
    """The kind of a signed request."""

    OBJECT = "OBJECT"  # older name of RESTRICT
    RESTRICT = "RESTRICT"
    ERASURE = "ERASURE"
    ACCESS = "ACCESS"
    PING = "PING"


class Identifier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ids of one type."""

    type: Literal["EMAIL_HASH"]
    values: tuple[str, ...]


class Dsr(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A data subject request."""

    type: DsrType
    scope: Literal["EU_PRIVACY", "US_PRIVACY"] | None = None
    identifiers: tuple[Identifier, ...] = ()
    target: Annotated[str, msgspec.Meta(max_length=2048)] | None = None


class Confirmation(msgspec.Struct, frozen=True):
    """RFC 7800: the key that signs."""

    kid: _Text


class KeyName(msgspec.Struct, frozen=True):
    """The signing key's name, read before the JWT is trusted."""

    iss: _Text
    cnf: Confirmation

    @property
    def domain(self) -> str:
        """The domain of `CN=<domain>`, or empty."""
        return self.iss.removeprefix(_ISSUER) if self.iss.startswith(_ISSUER) else ""


class _Times(msgspec.Struct, frozen=True):
    aud: str | tuple[str, ...]
    jti: _Text
    iat: _At
    exp: _At
    nbf: _At | None = None


class _Request(msgspec.Struct, frozen=True):
    dsr: Dsr


class Signed(msgspec.Struct, frozen=True):
    """A request with a valid signature."""

    dsr: Dsr
    digest: bytes
    """Identifies the request: equal requests are accepted only once."""
    expires_at_s: int


class NotTrusted(Exception):
    """
    The JWT has no valid signature of a known key, or another audience, or is not valid now.

    The message is from a fixed set. `is_signed`: at least the signature is valid.
    """

    def __init__(self, reason: str, *, is_signed: bool = False) -> None:
        super().__init__(reason)
        self.is_signed = is_signed


class BadRequest(Exception):
    """A signed JWT with an invalid request; the message says where."""


def key_name(token: str) -> KeyName:
    """
    Return the name of a JWT's signing key, unverified.

    Raises:
        NotTrusted: Not a JWT, or without a key name.
    """
    try:
        if len(token) > MAX_JWT_CHARS:
            raise ValueError("too long")
        payload = jws.extract_compact(token.encode("ascii")).payload
        name = msgspec.json.decode(payload, type=KeyName)
    except (JoseError, ValueError, RecursionError):
        # Raise after this block: the libraries' messages may quote the token.
        name = None
    # A key's name is printable; PostgreSQL rejects a NUL even in a query.
    if name is None or not name.domain or not (name.domain + name.cnf.kid).isprintable():
        raise NotTrusted("not a JWT that says iss CN=<domain> and cnf.kid")
    return name


def verified(token: str, public_key: str, *, audience: str, now_s: float) -> Signed:
    """
    Verify a JWT and return its request.

    `public_key` is the PEM of `key_name`'s key; `aud` must be or contain `audience`.

    Raises:
        NotTrusted: The signature, the audience or the times are wrong.
        BadRequest: Only the request is wrong.
    """
    payload = _payload(token, public_key)
    try:
        times = msgspec.json.decode(payload, type=_Times)
    except (ValueError, RecursionError):
        times = None
    if times is None:
        raise NotTrusted("aud, jti, iat and exp are not all there", is_signed=True)
    reason = _why_not(times, audience, now_s)
    if reason:
        raise NotTrusted(reason, is_signed=True)
    try:
        dsr = msgspec.json.decode(payload, type=_Request).dsr
    except msgspec.ValidationError as error:
        wrong = _place(error)
    else:
        return Signed(dsr, _digest(times.jti, dsr), int(times.exp) + 1)
    raise BadRequest(wrong)


def read_public_key(content: bytes) -> str:
    """
    Validate a PEM file's public key, and return it for storage.

    Raises:
        Refusal: Not an RSA public key, but a private key, say, or too short.
    """
    if b"PRIVATE KEY" in content:
        raise Refusal("this is a private key, which must stay secret; give the public key")
    try:
        key = load_pem_public_key(content)
    except ValueError:
        key = None
    if not isinstance(key, RSAPublicKey):
        raise Refusal("not the PEM of an RSA public key")
    if key.key_size < _MIN_KEY_BITS:
        raise Refusal(f"an RSA key of less than {_MIN_KEY_BITS} bits")
    return content.decode("ascii")


def _payload(token: str, public_key: str) -> bytes:
    try:
        key = RSAKey.import_key(public_key)
        return jws.deserialize_compact(token, key, algorithms=[ALGORITHM]).payload
    except (JoseError, ValueError, TypeError, RecursionError):
        pass
    raise NotTrusted("the JWT's signature is not that of its key, with RS256")


def _why_not(times: _Times, audience: str, now_s: float) -> str:
    if audience not in ((times.aud,) if isinstance(times.aud, str) else times.aud):
        return "the JWT is for another audience"
    if now_s >= times.exp:
        return "the JWT has expired"
    if max(times.iat, times.nbf or 0) > now_s + CLOCK_SKEW_S:
        return "the JWT is not valid yet"
    if times.exp > now_s + MAX_LIFETIME_S:
        return f"the JWT is good for more than {MAX_LIFETIME_S // S_PER_DAY} days"
    return ""


def _digest(jti: str, dsr: Dsr) -> bytes:
    return hashlib.sha256(msgspec.json.encode((jti, dsr))).digest()


def _place(error: msgspec.ValidationError) -> str:
    unknown = _UNKNOWN.search(str(error))
    if unknown is not None:
        # Ignored, an id under an unknown name would be lost.
        known = Dsr.__struct_fields__ if unknown["at"] == "$.dsr" else Identifier.__struct_fields__
        return f"{unknown_member(unknown['name'], known)}, at {unknown['at']} of the JWT"
    # "Invalid enum value 'x' - at `$.dsr.type`": only the place; the rest may quote a value.
    return f"the JWT's claims are wrong at {str(error).rpartition(' at ')[2].strip('`')}"[:128]
