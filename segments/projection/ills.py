"""
Faults of a process that still answers, but refuses files or changes.

    the ledger can't be written        locked, read-only
    the blobs' directory is not there, or the embedded store's
    the blobs' bucket does not answer, or refuses to be listed
    a disk is full, but for the reserve of ledger and store
    no file descriptor is left

Readiness and `doctor` list them, with cures; as all replicas have them alike, the process stays
ready.
"""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.files.disk import Disk
from segments.ledger.health import write_reasons
from segments.projection.bucket_look import BucketLook
from segments.runtime.causes import DESCRIPTORS, LOST, of_os_error
from segments.runtime.descriptors import descriptors_are_left
from segments.store.embedded import directory_in


@dataclass(frozen=True)
class Ills:
    """Checks everything that a process depends on."""

    ledger: AsyncEngine
    blobs: Blobs
    directory: Path
    """Where the process writes other files."""
    reserve_bytes: int | None
    expects_blobs: bool = True
    """Blobs must exist; without any deliveries there is no directory."""
    embedded_in: Path | None = None
    """The data directory of the embedded store; `None`: an external store is configured."""
    bucket: BucketLook | None = None
    """Looks at the blobs' bucket; `None`: the caller does, if at all."""

    async def __call__(self) -> list[str]:
        """Return the faults, a line each."""
        said = await write_reasons(self.ledger)
        try:
            if self.expects_blobs:
                self.blobs.check_there()
            self.blobs.check_room()
        except OSError as error:
            said.append(of_os_error(error).of("the storage of delivered files"))
        if self.bucket is not None and (fault := self.bucket.fault()):
            said.append(fault)
        try:
            Disk(self.directory, self.reserve_bytes).check_room()
        except OSError as error:
            said.append(of_os_error(error).of("its own directory"))
        if self.embedded_in is not None and not directory_in(self.embedded_in).is_dir():
            said.append(LOST.of("the store's directory"))
        if not descriptors_are_left():
            said.append(DESCRIPTORS.of("what comes"))
        return said
