"""What partners deliver, in the shapes in which they do, and what must come of it."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from segments.files.blob import Blob
from segments.files.blobs import Blobs
from segments.model.identity import Id, id_of_email_hash

PARTNER_ID = "c9eefe7ba1861a601d01a0f3e8f25573"
TYPE_TO_ALGORITHM = {"md5": "md5", "sha1": "sha1", "sha2": "sha256"}


def email_hashes(count: int, hash_type: str = "sha2", *, start: int = 0) -> list[str]:
    """Hash as many addresses, always the same ones, as partners do it."""
    algorithm = TYPE_TO_ALGORITHM[hash_type]
    addresses = (f"person{n}@example.com".encode() for n in range(start, start + count))
    return [hashlib.new(algorithm, address).hexdigest() for address in addresses]


def ids_of(hashes: Iterable[str]) -> list[Id]:
    """Return the ids that the bid path will look up."""
    return [id_of_email_hash(digest) for digest in hashes]


def text_of(hashes: Iterable[str]) -> bytes:
    """Write a plain data file."""
    return "".join(f"{digest}\n" for digest in hashes).encode()


def zip_of(name_to_content: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Write a zip file."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, content in name_to_content.items():
            archive.writestr(name, content)
    return written.getvalue()


def tar_of(name_to_content: Mapping[str, bytes], *, is_oldest: bool = False) -> bytes:
    """Return a tar of some files; the oldest form has no magic, and a sum over its first block."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in name_to_content.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    tar = bytearray(packed.getvalue())
    if is_oldest:
        tar[257:265] = bytes(8)
        tar[148:156] = b" " * 8
        tar[148:156] = b"%06o\0 " % sum(tar[:512])
    return bytes(tar)


def gz_of(content: bytes) -> bytes:
    """Write a gz file."""
    return gzip.compress(content, 1)


def metadata_of(
    content: bytes,
    *,
    records: int,
    segments: Sequence[tuple[str, str]] = (("123", "add"),),
    **fields: Any,
) -> dict[str, Any]:
    """Describe a data file as the document has it."""
    digest = hashlib.md5(content).hexdigest()
    return {
        "partner_id": PARTNER_ID,
        "file": {
            "name": f"{digest}.txt",
            "hash": "md5",
            "digest": digest,
            "date": "2014-12-12",
            "records": records,
        },
        "segments": [
            {"id": id_, "name": f"Segment {id_}", "action": action} for id_, action in segments
        ],
        **fields,
    }


def as_json(metadata: Mapping[str, Any]) -> bytes:
    """Write a metadata file."""
    return msgspec.json.encode(metadata)


async def blob_of(blobs: Blobs, content: bytes) -> Blob:
    """Put content into a blob and open it."""
    await blobs.put("delivered", [content])
    return blobs.get("delivered")
