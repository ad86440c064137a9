"""
The second factor of staff: codes of 6 digits for 30 seconds each (RFC 6238).

A code is accepted for its own 30 seconds and those on either side, since clocks differ, and once:
the caller keeps the step and takes only later ones (RFC 6238, 5.2).
"""

import hmac
from typing import Final

import pyotp
import segno
from markupsafe import Markup

from segments.model.limit import Limit

PERIOD_S: Final = 30
_ISSUER: Final = "rtb-segments"
_STEPS: Final = (0, -1, 1)

TRIES: Final = Limit(burst=5, per_s=1 / 300)
"""Wrong codes of a member: 3 in 10^6 fit, so with the password a guess takes about 3 years."""


def new_secret() -> str:
    """Make a random secret, in Base32."""
    return pyotp.random_base32()


def step_of(secret: str, code: str, now_s: float) -> int | None:
    """Return a code's step; `None`: no step that is accepted now has this code."""
    totp = pyotp.TOTP(secret)
    digits = "".join(code.split())
    now_step = int(now_s) // PERIOD_S
    for step in (now_step + each for each in _STEPS):
        if hmac.compare_digest(totp.generate_otp(step).encode(), digits.encode(errors="replace")):
            return step
    return None


def uri(secret: str, username: str) -> str:
    """Return the URI that authenticator programs take."""
    return pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=_ISSUER)


def picture(secret: str, username: str) -> Markup:
    """Return that URI as a QR code, in SVG without styles."""
    drawn = segno.make_qr(uri(secret, username), error="m")
    return Markup(drawn.svg_inline(scale=4, border=2, light="#fff", dark="#000", omitsize=True))  # noqa: S704 - digits and paths of our own
