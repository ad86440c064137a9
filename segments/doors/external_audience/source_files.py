"""
The files that an ingestion takes, listed in a thread at the time of the request.

A folder gives all files below it, except hidden (`.`, `_`) and empty ones, by time, then path, so
that later files override earlier ones.
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
    Return all files of a source, the oldest first; none if the source does not exist.

    Raises:
        Problem: 502: the storage failed. 500: the connection is misconfigured here.
            422: too many files in the folder.
    """
    which = f"base connection {connection.name}"
    try:
        async with asyncio.timeout(LIST_WITHIN_S):
            found = await asyncio.to_thread(_list, connection, source)
    except ConnectionUnusable as error:
        # Details are for the operator only: they name environment variables.
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
    """Return the files that changed between two times, both seconds included."""
    return [file for file in files if start_s <= int(file.modified_at_s) <= end_s]


def _list(connection: BaseConnection, source: SourceParams) -> list[SourceFile]:
    storage = open_storage(connection)
    if source.type == "folder":
        return storage.folder(source.path)
    try:
        return [storage.file(source.path)]
    except NotThere:
        return []
