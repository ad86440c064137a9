"""What lies in a directory of blobs, but for its marker (`segments.files.blobs`)."""

from pathlib import Path


def kept_files(blobs: Path) -> list[Path]:
    """Return the files that a service keeps in its directory of blobs."""
    return [path for path in blobs.rglob("*") if path.is_file() and not path.name.startswith(".")]
