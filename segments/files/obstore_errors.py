"""Turns obstore's errors, whose messages contain paths, into the operating system's."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError

_OS_ERROR = re.compile(r"\(os error (\d+)\)")

_BUCKET_FULL = "XMinioStorageFull"
"""MinIO's error code with status 507."""


@contextmanager
def as_os_errors() -> Iterator[None]:
    """
    Raise an operating system's refusal, here or in a bucket, as an `OSError` with its number.

    Raises:
        OSError: The system's refusal, without a path.
        obstore.exceptions.BaseError: Any other failure, unchanged.
    """
    try:
        yield
    except BaseError as error:
        told = _errno(str(error))
        if told is None:
            raise
        raise OSError(told, os.strerror(told)) from None


def _errno(said: str) -> int | None:
    if _BUCKET_FULL in said:
        return errno.ENOSPC
    number = _OS_ERROR.search(said)
    return None if number is None else int(number[1])
