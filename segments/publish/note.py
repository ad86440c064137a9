"""
A publisher's note in the store for its successor, beside the marks of changed buckets.

A note belongs to a state of the publication. Without the note of `LATEST`'s state, the next
publisher begins anew.
"""

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from segments.files.published_place import NotThere, PublishedPlace
from segments.publish.visible import Seen
from segments.store.published.form import UnreadableFile
from segments.store.published.latest import LATEST_NAME, MAX_BYTES, Keys, Latest, public_text, read

_FORM = 1
"""Raised when records or catalogs are published in another way."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """The note of a publication's state."""

    form: int = _FORM
    ledger: str
    names: list[str] | None
    """Of the recipients, sorted; `None`: everything is published."""
    runs: list[bytes]
    """Of the store's servers, sorted; see `segments.store.servers.masters`."""
    bucket_bits: int
    kept_from: int
    """Lower numbers may hold data that these recipients may no longer see."""
    seen: Seen

    def continues(self, other: "Note") -> bool:
        """Tell whether the same store is published to the same recipients, in the same form."""
        return replace(self, kept_from=other.kept_from, seen=other.seen) == other


def packed(note: Note) -> bytes:
    """Return the bytes of a note."""
    return msgspec.msgpack.encode(note)


def unpacked(raw: bytes | None) -> Note | None:
    """Read a note; `None`: there is none, or of another version."""
    if not raw:
        return None
    try:
        return msgspec.msgpack.decode(raw, type=Note)
    except msgspec.DecodeError:
        return None


async def known_latest(place: PublishedPlace, key: Ed25519PrivateKey) -> Latest | None:
    """
    Return a place's `LATEST` by our key; `None`: none, or of another key.

    Raises:
        segments.files.published_place.PlaceAway: The place is away.
    """
    try:
        raw = await place.read(LATEST_NAME, MAX_BYTES)
        return read(raw, Keys.of([public_text(key.public_key())]))
    except (NotThere, UnreadableFile):
        return None
