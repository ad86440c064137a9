"""
Which files of a customer's an ingestion takes: listed when it is asked for, in a thread.

Of a folder those below it, hidden ones (`.`, `_`) and empty ones left out; in the
order of their times, then of their paths, so that what a later file says holds.
"""

import asyncio
import logging
from collections.abc import Sequence

from segments.doors.external_audience.schemas import SourceParams
from segments.doors.rest.problem import Problem
from segments.files.base_connection import BaseConnection, open_storage
from segments.files.customer_storage import (
    MAX_FILES,
    ConnectionUnusable,
    NotThere,
    SourceFile,
    StorageAway,
    TooManyFiles,
)

_log = logging.getLogger(__name__)

LIST_WITHIN_S = 60.0


async def list_files(connection: BaseConnection, source: SourceParams) -> list[SourceFile]:
    """
    Return all files of a source, the oldest first; of one that is not there, none.

    Raises:
        Problem: 502: it was asked, and failed. 500: it can't be asked, as it is set up here.
            422: a folder of too many files.
    """
    which = f"base connection {connection.name}"
    try:
        async with asyncio.timeout(LIST_WITHIN_S):
            found = await asyncio.to_thread(_list, connection, source)
    except ConnectionUnusable as error:
        # What is wrong is the operator's to know: it names variables.
        _log.error("base connection %r: %s", connection.name, error)
        raise Problem(500, f"{which} is set up wrongly here; the operator has to look") from None
    except StorageAway as error:
        raise Problem(502, f"{which}: {error}") from None
    except TimeoutError:
        raise Problem(502, f"{which} has not answered in {LIST_WITHIN_S:g} s") from None
    except TooManyFiles:
        raise Problem(422, f"the folder holds more than {MAX_FILES} files") from None
    files = [file for file in found if file.size_bytes]
    return sorted(files, key=lambda file: (file.modified_at_s, file.path))


def within(files: Sequence[SourceFile], start_s: int, end_s: int) -> list[SourceFile]:
    """Return those that were changed within two times, the seconds of both included."""
    return [file for file in files if start_s <= int(file.modified_at_s) <= end_s]


def _list(connection: BaseConnection, source: SourceParams) -> list[SourceFile]:
    storage = open_storage(connection)
    if source.type == "folder":
        return storage.folder(source.path)
    try:
        return [storage.file(source.path)]
    except NotThere:
        return []
