"""
The first half of a job: `unpack -> validate -> parse`, into the spool.

It blocks, and runs in a worker thread; its waiter reads `progress`, and sets `is_abandoned` to
stop it at the next block. It does not write to the store, so a file that does not match its
description has no effect.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from segments.files.blob import Blob
from segments.files.blobs import Blobs
from segments.ingest.in_thread import Abandoned
from segments.ingest.parse import FileParser
from segments.ingest.spool import Spool
from segments.ingest.text import text_blocks
from segments.ingest.unpack import BLOCK_BYTES, is_archive, plain_blocks
from segments.ingest.validate import check_digest, check_records
from segments.model.identity import ID_BYTES
from segments.model.order import Order
from segments.model.stop_reason import Stopped, StopReason


class Progress(NamedTuple):
    """The progress of a reading, in delivered bytes."""

    size_bytes: int
    read_bytes: int


class Reading:
    """Reads one delivered file."""

    def __init__(
        self,
        blobs: Blobs,
        name: str,
        order: Order,
        spool: Spool,
        parser_for: Callable[[bytes], FileParser],
        *,
        is_ids: bool = False,
    ) -> None:
        """
        `parser_for` makes the parser from the file's first block; from an empty block, with zero
        counts. A file of ids (`is_ids`) needs none.
        """
        self.parser = parser_for(b"")
        self.progress = Progress(0, 0)
        self.is_abandoned = False
        self._blobs = blobs
        self._name = name
        self._order = order
        self._spool = spool
        self._is_ids = is_ids
        self._parser_for = parser_for

    def run(self) -> None:
        """
        Read the whole file, finish the spool, and complete the counts, except of a file of ids.

        Raises:
            Stopped: FILE_NOT_FOUND, DIGEST_MISMATCH, UNREADABLE_FILE,
                INFLATES_TOO_FAR, NO_VALID_RECORD or RECORD_COUNT_MISMATCH.
            Abandoned: The waiter set `is_abandoned`.
        """
        if self._is_ids:
            self._read_ids()
            return
        # Also for a refused file: the report keeps the size.
        self.progress = Progress(self._blob().size_bytes, 0)
        self._validate()

        blob = self._blob()
        blocks = self._unless_abandoned(plain_blocks(blob))
        if not self._order.is_of_marked_ids:  # in which a byte like CR is data
            blocks = text_blocks(blocks)
        first = next(blocks, b"")
        self.parser = self._parser_for(first)
        for block in chain([first], blocks):
            self._spool.add(self.parser.feed(block))
            self.progress = Progress(blob.size_bytes, min(blob.tell(), blob.size_bytes))
        self._spool.add(self.parser.finish())
        self._spool.finish()

        parser = self.parser
        check_records(self._order, parser.rows, parser.header_rows, parser.well_formed)

    def _read_ids(self) -> None:
        blob = self._blob()
        if blob.size_bytes % ID_BYTES:
            # The blob was written whole: disk or bucket has lost its end.
            raise Stopped(
                StopReason.UNREADABLE_FILE, f"ids that break off ({blob.size_bytes} bytes)"
            )
        for block in self._unless_abandoned(delivered_blocks(blob)):
            self._spool.add(np.frombuffer(block, np.uint8).reshape(-1, ID_BYTES))
        self._spool.finish()

    def _validate(self) -> None:
        if is_of_digest(self._order, self._blob, self._unless_abandoned):
            return
        raise Stopped(
            StopReason.DIGEST_MISMATCH,
            f"{self._blob().size_bytes} bytes of which {self._order.digest_algorithm} is another",
        )

    def _blob(self) -> Blob:
        """Open the file again: archive readers close it at the end."""
        try:
            return self._blobs.get(self._name)
        except FileNotFoundError:
            raise Stopped(StopReason.FILE_NOT_FOUND) from None

    def _unless_abandoned(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            if self.is_abandoned:
                raise Abandoned
            yield block


def is_of_digest(
    order: Order,
    opened: Callable[[], Blob],
    watched: Callable[[Iterator[bytes]], Iterator[bytes]] = lambda blocks: blocks,
) -> bool:
    """
    Tell whether a file has its order's digest, if any; `watched` wraps each pass over its blocks.

    Raises:
        Stopped: UNREADABLE_FILE or INFLATES_TOO_FAR: an archive with another digest.
    """
    if check_digest(order, watched(delivered_blocks(opened()))):
        return True
    # The document has the digest of "the file", named `<digest>.txt` even if it is compressed:
    # some partners take the digest before they compress.
    return is_archive(opened()) and check_digest(order, watched(plain_blocks(opened())))


def delivered_blocks(blob: Blob) -> Iterator[bytes]:
    """Yield a blob's bytes unchanged."""
    with blob.buffered() as delivered:
        while block := delivered.read(BLOCK_BYTES):
            yield block
