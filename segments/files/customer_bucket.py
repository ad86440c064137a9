"""
A customer's bucket, by obstore. Buckets have no links, so no path leads out.
"""

import io
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from segments.files.blob import Blob
from segments.files.customer_storage import (
    MAX_FILES,
    NotThere,
    SourceFile,
    TooManyFiles,
    away,
    is_hidden,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore import ObjectMeta


class CustomerBucket:
    """Files below the prefix of its URL; see `segments.files.customer_storage.Storage`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def file(self, path: str) -> SourceFile:
        """Return a file."""
        try:
            return _of_bucket(obstore.head(self._store, path))
        except FileNotFoundError:
            raise NotThere from None
        except (BaseError, OSError, ValueError) as error:
            raise away("the bucket", error) from None

    def folder(self, path: str) -> list[SourceFile]:
        """Return all files below a folder, by path."""
        found: list[SourceFile] = []
        try:
            for entries in obstore.list(self._store, path):
                # obstore strips the last slash from a folder's object, and then can't read it; such
                # objects are empty.
                files = (_of_bucket(entry) for entry in entries if entry["size"])
                found += [f for f in files if not is_hidden(f.path) and f.path.isprintable()]
                if len(found) > MAX_FILES:
                    raise TooManyFiles
        except (BaseError, OSError, ValueError) as error:
            raise away("the bucket", error) from None
        return sorted(found)

    def open(self, file: SourceFile) -> io.RawIOBase:
        """Open a file in its listed version."""
        if self.file(file.path) != file:
            raise NotThere
        return _BucketFile(self._store, file.path, file.size_bytes)


class _BucketFile(Blob):
    """A bucket's file; failed reads are no fault of its content."""

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        try:
            return super().readinto(buffer)
        except (BaseError, OSError, ValueError) as error:
            raise away("the bucket", error) from None


def _of_bucket(entry: "ObjectMeta") -> SourceFile:
    modified_at_s = entry["last_modified"].timestamp()
    version = (entry["e_tag"] or f"{entry['size']}-{modified_at_s}")[:128]
    return SourceFile(entry["path"], version, entry["size"], modified_at_s)
