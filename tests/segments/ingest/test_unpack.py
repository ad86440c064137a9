import bz2
import lzma
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from segments.files.blob import Blob
from segments.files.blobs import Blobs
from segments.ingest.unpack import ALWAYS_ALLOWED_BYTES, BLOCK_BYTES, is_archive, plain_blocks
from segments.model.stop_reason import Stopped, StopReason
from tests.segments.ingest.deliveries import blob_of, email_hashes, gz_of, tar_of, text_of, zip_of

TEXT = text_of(email_hashes(10_000))


async def plain_of(blobs: Blobs, delivered: bytes) -> bytes:
    return b"".join(plain_blocks(await blob_of(blobs, delivered)))


async def stop_of(blobs: Blobs, delivered: bytes) -> Stopped:
    blob = await blob_of(blobs, delivered)
    with pytest.raises(Stopped) as caught:
        largest_block(blob)
    return caught.value


def largest_block(blob: Blob) -> int:
    return max(map(len, plain_blocks(blob)), default=0)


def of_method(zipped: bytes, method: int) -> bytes:
    """Return the same zip as if it were compressed by another method."""
    other = bytearray(zipped)
    for at in (8, zipped.index(b"PK\x01\x02") + 10):
        other[at : at + 2] = method.to_bytes(2, "little")
    return bytes(other)


def led_astray(zipped: bytes) -> bytes:
    """Return a zip that says of its directory that it stands further on than it does."""
    other = bytearray(zipped)
    at = other.index(b"PK\x05\x06") + 16
    other[at : at + 4] = (int.from_bytes(other[at : at + 4], "little") + 9).to_bytes(4, "little")
    return bytes(other)


@pytest.mark.parametrize(
    ("delivered", "expected_is_archive"),
    [
        pytest.param(TEXT, False, id="plain"),
        pytest.param(b"", False, id="empty"),
        pytest.param(b"\n", False, id="one byte"),
        pytest.param(gz_of(TEXT), True, id="gz"),
        pytest.param(gz_of(TEXT[:650]) + gz_of(TEXT[650:]), True, id="gz of two members"),
        pytest.param(gz_of(TEXT) + b"\0" * 512, True, id="gz padded with zeros"),
        pytest.param(zip_of({"a.txt": TEXT}), True, id="zip"),
        pytest.param(zip_of({"a.txt": TEXT}, zipfile.ZIP_STORED), True, id="zip, stored"),
        pytest.param(zip_of({"a.txt": TEXT}, zipfile.ZIP_BZIP2), True, id="zip, bzip2"),
        pytest.param(zip_of({"out/": b"", "out/a.txt": TEXT}), True, id="zip with a folder"),
        pytest.param(zip_of({"../../etc/passwd": TEXT}), True, id="zip with a path"),
        pytest.param(
            zip_of({"a.txt": TEXT, "__MACOSX/._a.txt": b"finder"}), True, id="zip made by macOS"
        ),
        pytest.param(
            zip_of({"d/.DS_Store": b"finder", "d/a.txt": TEXT, "d/._a.txt": b"finder"}),
            True,
            id="zip of a folder by Finder",
        ),
        pytest.param(
            zip_of({"Desktop.ini": b"[x]", "a.txt": TEXT, "thumbs.db": b"x"}),
            True,
            id="zip of a folder by Windows",
        ),
    ],
)
async def test_plain_text_is_found_whatever_the_file_is(
    blobs: Blobs, delivered: bytes, expected_is_archive: bool
) -> None:
    expected = TEXT if len(delivered) > 1 else delivered

    assert await plain_of(blobs, delivered) == expected
    assert is_archive(blobs.get("delivered")) is expected_is_archive


@pytest.mark.parametrize(
    ("delivered", "expected_detail"),
    [
        pytest.param(gz_of(TEXT)[:-100], "cut short", id="gz cut short"),
        pytest.param(gz_of(TEXT)[:12], "cut short", id="gz of a header alone"),
        pytest.param(
            gz_of(TEXT)[:-8] + b"\0" * 8, "damaged", id="gz whose checksum does not match"
        ),
        pytest.param(gz_of(TEXT) + TEXT, "damaged", id="gz with something behind it"),
        pytest.param(b"\x1f\x8b" + b"x" * 100, "damaged", id="gz by its first bytes only"),
        pytest.param(zip_of({"a.txt": TEXT})[:-100], "damaged", id="zip cut short"),
        pytest.param(zip_of({"a": TEXT, "b": TEXT}), "zip of 2 files", id="zip of two files"),
        pytest.param(zip_of({}), "zip of 0 files", id="zip of nothing"),
        pytest.param(zip_of({"a/": b""}), "zip of 0 files", id="zip of a folder"),
        pytest.param(zip_of({".DS_Store": b"x"}), "zip of 0 files", id="zip of Finder's alone"),
        pytest.param(tar_of({"a.txt": TEXT, "b.txt": TEXT}), "a tar archive", id="tar"),
        pytest.param(tar_of({"a": TEXT}, is_oldest=True), "a tar archive", id="tar of before 1988"),
        pytest.param(gz_of(tar_of({"a.txt": TEXT})), "a tar archive", id="tar.gz"),
        pytest.param(zip_of({"a.tar": tar_of({"a.txt": TEXT})}), "a tar archive", id="zipped tar"),
        pytest.param(gz_of(gz_of(TEXT)), "a .gz within", id="gz within gz"),
        pytest.param(bz2.compress(TEXT), "a bzip2 file", id="bzip2"),
        pytest.param(lzma.compress(TEXT), "an xz file", id="xz"),
        pytest.param(b"7z\xbc\xaf\x27\x1c" + bytes(99), "a 7z archive", id="7z"),
        pytest.param(
            zip_of({"xl/workbook.xml": b"<x/>", "xl/a.xml": b"<x/>"}), "save it as CSV", id="xlsx"
        ),
        pytest.param(of_method(zip_of({"a.txt": TEXT}), 9), "Deflate64", id="zip of Deflate64"),
        pytest.param(of_method(zip_of({"a.txt": TEXT}), 93), "Zstandard", id="zip of Zstandard"),
        pytest.param(of_method(zip_of({"a.txt": TEXT}), 77), "method 77", id="zip of who knows"),
        pytest.param(
            led_astray(zip_of({"a.txt": TEXT})), "damaged", id="zip whose file begins before it"
        ),
        pytest.param(
            zip_of({"a.txt": TEXT}).replace(b"a.txt", b"\0.txt"), "damaged", id="zip of no name"
        ),
    ],
)
async def test_archive_that_is_not_one_whole_file_is_refused(
    blobs: Blobs, delivered: bytes, expected_detail: str
) -> None:
    stopped = await stop_of(blobs, delivered)

    assert stopped.reason is StopReason.UNREADABLE_FILE
    assert expected_detail in stopped.detail


async def test_encrypted_zip_is_refused_without_naming_its_member(blobs: Blobs) -> None:
    delivered = bytearray(zip_of({"secret-name.txt": TEXT}))
    # Bit 0 of the flags, in the member's own header and in the directory's.
    delivered[6] |= 1
    delivered[delivered.index(b"PK\x01\x02") + 8] |= 1

    stopped = await stop_of(blobs, bytes(delivered))

    assert stopped.reason is StopReason.UNREADABLE_FILE
    assert "encrypted" in stopped.detail
    assert "secret-name" not in stopped.detail


async def test_zip_member_with_another_checksum_is_refused(blobs: Blobs) -> None:
    delivered = bytearray(zip_of({"a.txt": TEXT}))
    at = delivered.index(b"PK\x01\x02") + 16
    delivered[at : at + 4] = zlib.crc32(b"other").to_bytes(4, "little")

    assert (await stop_of(blobs, bytes(delivered))).reason is StopReason.UNREADABLE_FILE


async def test_zip_with_an_enormous_directory_is_refused_before_it_is_read(blobs: Blobs) -> None:
    members = {f"{n}-{'x' * 200}": b"" for n in range(5_000)}

    stopped = await stop_of(blobs, zip_of(members))

    assert stopped.reason is StopReason.UNREADABLE_FILE
    assert "5000" not in stopped.detail


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(gz_of, id="gz"),
        pytest.param(lambda content: zip_of({"a.txt": content}), id="zip"),
    ],
)
async def test_bomb_is_refused_as_soon_as_it_is_one(blobs: Blobs, archive: object) -> None:
    assert callable(archive)
    bomb: bytes = archive(b"a" * (2 * ALWAYS_ALLOWED_BYTES))

    stopped = await stop_of(blobs, bomb)

    assert len(bomb) * 100 < 2 * ALWAYS_ALLOWED_BYTES
    assert stopped.reason is StopReason.INFLATES_TOO_FAR


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_by_a_method_that_inflates_a_million_times_takes_no_memory(
    tmp_path: Path, method: int
) -> None:
    """
    `zipfile` inflates at once all that it has read: 800 bytes of BZip2 were a gigabyte.

    In a process of its own, whose peak is nobody else's.
    """
    with (
        zipfile.ZipFile(tmp_path / "bomb", "w", method) as archive,
        archive.open("a.txt", "w", force_zip64=True) as member,
    ):
        for _ in range(64):
            member.write(bytes(1 << 20))
    program = f"""
import resource
from pathlib import Path
from segments.files.blobs import Blobs
from segments.ingest.unpack import plain_blocks
from segments.model.stop_reason import Stopped

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    sum(map(len, plain_blocks(Blobs.in_directory(Path({str(tmp_path)!r})).get("bomb"))))
except Stopped as stopped:
    print(stopped.reason.value)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()

    assert said[0] == "inflates_too_far"
    assert int(said[1]) < 32 * 1024  # KiB


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
async def test_zip_by_another_method_that_is_damaged_is_refused(blobs: Blobs, method: int) -> None:
    whole = zip_of({"a.txt": TEXT}, method)
    assert await plain_of(blobs, whole) == TEXT
    for damaged in (
        whole[: len(whole) // 2] + bytes(9) + whole[len(whole) // 2 + 9 :],
        whole.replace(zlib.crc32(TEXT).to_bytes(4, "little"), bytes(4)),
    ):
        stopped = await stop_of(blobs, damaged)

        assert (stopped.reason, stopped.detail) == (StopReason.UNREADABLE_FILE, "archive: damaged")


@pytest.mark.parametrize("line", [b"a\n", b"\n", b",\n", b"{},"])
async def test_shortest_lines_are_counted_for_what_they_cost(blobs: Blobs, line: bytes) -> None:
    """
    58 KB of them took minutes: a line costs as much as some bytes, however short.
    """
    packed = gz_of(line * (4_000_000 // len(line)))

    assert len(packed) < 40_000
    assert (await stop_of(blobs, packed)).reason is StopReason.INFLATES_TOO_FAR


async def test_block_is_never_larger_than_promised(blobs: Blobs) -> None:
    for delivered in (TEXT * 2, gz_of(TEXT * 2), zip_of({"a.txt": TEXT * 2})):
        assert largest_block(await blob_of(blobs, delivered)) <= BLOCK_BYTES


async def test_small_file_of_equal_lines_is_no_bomb(blobs: Blobs) -> None:
    text = text_of(email_hashes(1)) * 100_000

    assert len(await plain_of(blobs, gz_of(text))) == len(text)


def test_reading_a_gigabyte_takes_no_more_memory_than_a_megabyte(blobs: Blobs) -> None:
    """
    In a process of its own, whose peak is nobody else's.
    """
    program = f"""
import asyncio, random, resource
from pathlib import Path
from segments.files.blobs import Blobs
from segments.ingest.unpack import plain_blocks
from isal import igzip

blobs = Blobs.in_directory(Path({str(blobs._directory)!r}))
block = (random.Random(1).randbytes(1 << 12) + bytes(60 << 10)) * 16

def delivered():
    for _ in range(256):
        yield igzip.compress(block * 4, 0)

asyncio.run(blobs.put("large", delivered()))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(before, sum(map(len, plain_blocks(blobs.get("large")))))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()

    assert int(said[1]) == 1 << 30
    assert int(said[2]) < 32 * 1024  # KiB
