"""
The first half of a job: `unpack -> validate -> parse`, into the spool.

Blocking, and meant for a worker thread; whoever waits for it looks at
`progress` meanwhile, and sets `is_abandoned` to have it stop at the next block.
Nothing is written to the store here, so a file that turns out not to be what
was described has done nothing.

What turns the blocks into ids is a parser, which the kind of file chooses by the
first of them. A file that is kept as its ids alone needs none.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from segments.files.blobs import Blob, Blobs
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
    """How far a reading has come, of the bytes as delivered."""

    size_bytes: int
    read_bytes: int


class Reading:
    """One reading of one delivered file."""

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
        Args:
            blobs: Where the file is.
            name: Of its blob.
            order: What is said of it.
            spool: Takes its ids.
            parser_for: Makes the parser, of the file's first block; of nothing, one that
                has counted nothing.
            is_ids: Whether the file holds ids and nothing else; then nothing is parsed.
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
        Read the whole file; then the spool is finished and the parser has counted.

        Of a file of ids there is nothing to parse and to count.

        Raises:
            Stopped: FILE_NOT_FOUND, DIGEST_MISMATCH, UNREADABLE_FILE,
                INFLATES_TOO_FAR, NO_VALID_RECORD or RECORD_COUNT_MISMATCH.
            Abandoned: As was asked.
        """
        if self._is_ids:
            self._read_ids()
            return
        # Also of a file that is refused: its size stays, when it is gone itself.
        self.progress = Progress(self._blob().size_bytes, 0)
        self._validate()

        blob = self._blob()
        blocks = self._unless_abandoned(plain_blocks(blob))
        if not self._order.is_of_marked_ids:  # of which every byte counts, also one like a CR
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
        for block in self._unless_abandoned(delivered_blocks(self._blob())):
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
        """Open the file anew: whoever reads an archive closes it at its end."""
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
    Tell whether a file has the digest that an order says, if it says one.

    Args:
        order: What is said of it.
        opened: Opens it, each time anew.
        watched: Passes its blocks on.

    Raises:
        Stopped: UNREADABLE_FILE or INFLATES_TOO_FAR: an archive of another digest.
    """
    if check_digest(order, watched(delivered_blocks(opened()))):
        return True
    # The document has the digest of "the file" and names it `<digest>.txt`, also where it
    # is compressed: some partners take it before they do so.
    return is_archive(opened()) and check_digest(order, watched(plain_blocks(opened())))


def delivered_blocks(blob: Blob) -> Iterator[bytes]:
    """Yield a blob's bytes as they are, archive or not."""
    with blob.buffered() as delivered:
        while block := delivered.read(BLOCK_BYTES):
            yield block
