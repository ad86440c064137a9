"""
`LATEST`: the files of the newest state, and its time. Signed, and written last.

    {"latest": {...}, "signature": "<Ed25519 of the bytes of `latest`, base64>"}

Size and SHA-256 of each file are listed, so the signature covers all. An attacker who lacks the key
can only withhold or replay files. A follower stops after long enough without newer ones
(`made_at_s`), and never goes back to a lower number of the same ledger.

Files are named by their numbers and never changed. `increments` may begin before `full`: a follower
in such a state continues from there, any other from `full`.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from segments.store.published.form import (
    UNREADABLE_JSON,
    DamagedFile,
    Kind,
    NewerFile,
    UnreadableFile,
    Written,
)

LATEST_NAME: Final = "LATEST"
SCHEMA: Final = 1
MAX_BYTES: Final = 4 << 20
"""Longer than any that we write."""

_DOMAIN: Final = b"rtb-segments LATEST\n"
"""Signed as well, against the key's other signatures."""

_NAME: Final = re.compile(r"(full|increment)-([1-9][0-9]{0,18})\.seg", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class NotSigned(UnreadableFile):
    """`LATEST` has no signature of a trusted key."""


class PublishedFile(msgspec.Struct, frozen=True):
    """One file beside `LATEST`."""

    number: int
    """Of the resulting state."""
    size_bytes: int
    sha256: str
    behind: int | None = None
    """Of an increment, the number of the state that it applies to; `None`: a full."""

    @property
    def name(self) -> str:
        """The file's name beside `LATEST`."""
        return name_of(Kind.FULL if self.behind is None else Kind.INCREMENT, self.number)

    @classmethod
    def of(cls, number: int, behind: int | None, written: Written) -> "PublishedFile":
        """Return the entry for a written file."""
        return cls(number, written.size_bytes, written.sha256, behind)


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """The newest state, and the files that lead to it."""

    schema: int = SCHEMA
    ledger: str
    number: int
    """Raised with every write, even if the state is the same."""
    made_at_s: float
    """Unix time for everything below."""
    opt_outs: int
    """All up to this number are in; the ledger had no more at `made_at_s`."""
    full: PublishedFile
    increments: tuple[PublishedFile, ...] = ()
    """Each applies to the state before."""

    @property
    def state(self) -> int:
        """The number of the state that all files together lead to."""
        return max(self.full.number, self.increments[-1].number if self.increments else 0)

    def way_from(self, number: int) -> Sequence[PublishedFile] | None:
        """Return the increments from a state to the newest; `None`: none starts there."""
        if number == self.state:
            return ()
        for at, increment in enumerate(self.increments):
            if increment.behind == number:
                return self.increments[at:]
        return None


class Keys(NamedTuple):
    """The trusted public keys."""

    public: tuple[Ed25519PublicKey, ...]

    @classmethod
    def of(cls, texts: Collection[str]) -> "Keys":
        """
        Read public keys, each as `public_text` writes it.

        Raises:
            ValueError: A key is malformed, or no key is given.
        """
        if not texts:
            raise ValueError("no public key is named")
        return cls(tuple(map(_public_key, texts)))


def public_text(key: Ed25519PublicKey) -> str:
    """Return a public key's 32 bytes in base64."""
    return b64encode(key.public_bytes_raw()).decode()


def name_of(kind: Kind, number: int) -> str:
    """Return the name of the file that leads to a state."""
    return f"{kind}-{number}.seg"


def number_in(name: str) -> int | None:
    """Return the number in a published file's name; `None`: not a name of ours."""
    found = _NAME.fullmatch(name)
    return None if found is None else int(found[2])


def sign(latest: Latest, key: Ed25519PrivateKey) -> bytes:
    """Return the bytes of `LATEST`."""
    said = msgspec.json.encode(latest)
    signature = b64encode(key.sign(_DOMAIN + said)).decode()
    return msgspec.json.encode(_Signed(msgspec.Raw(said), signature)) + b"\n"


def read(raw: bytes, keys: Keys) -> Latest:
    """
    Read `LATEST`.

    Raises:
        NotSigned: No trusted key has signed these bytes.
        NewerFile: A later version of this software wrote `LATEST`.
        DamagedFile: `LATEST` is truncated, or no version can have written it.
    """
    try:
        signed = msgspec.json.decode(raw, type=_Signed)
        signature = b64decode(signed.signature, validate=True)
    except (*UNREADABLE_JSON, ValueError):
        raise DamagedFile("LATEST can't be read") from None
    said = bytes(signed.latest)
    if not any(_is_by(key, signature, said) for key in keys.public):
        raise NotSigned("LATEST has no signature of a key in RTB_FOLLOW_KEYS")
    try:
        schema = msgspec.json.decode(said, type=_Schema).schema
        if schema > SCHEMA:
            raise NewerFile(
                f"LATEST: it has schema {schema} and this software reads schema {SCHEMA}: run the"
                " version that published it, or a later one"
            )
        latest = msgspec.json.decode(said, type=Latest)
    except UNREADABLE_JSON:
        raise DamagedFile("LATEST can't be read") from None
    if not _is_possible(latest):
        raise DamagedFile("LATEST says what no version writes")
    return latest


class _Signed(msgspec.Struct, frozen=True):
    latest: msgspec.Raw
    signature: str


class _Schema(msgspec.Struct, frozen=True):
    schema: int


def _is_possible(latest: Latest) -> bool:
    if latest.full.behind is not None or latest.schema != SCHEMA or latest.opt_outs < 0:
        return False
    if latest.number < latest.state or not all(
        file.size_bytes > 0 and file.number > 0 and _SHA256.fullmatch(file.sha256)
        for file in (latest.full, *latest.increments)
    ):
        return False
    if any(each.behind is None or each.behind >= each.number for each in latest.increments):
        return False
    if any(then.behind != one.number for one, then in pairwise(latest.increments)):
        return False
    return latest.way_from(latest.full.number) is not None


def _is_by(key: Ed25519PublicKey, signature: bytes, said: bytes) -> bool:
    try:
        key.verify(signature, _DOMAIN + said)
    except InvalidSignature:
        return False
    return True


def _public_key(text: str) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(b64decode(text, validate=True))
    except ValueError:
        raise ValueError(
            "not a public key as `rtb-segments key publish` prints it: 44 characters of base64"
        ) from None
