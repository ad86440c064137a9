"""Turns obstore's errors, whose messages contain paths, into the operating system's, or a right."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from obstore.exceptions import BaseError, PermissionDeniedError

_OS_ERROR = re.compile(r"\(os error (\d+)\)")

_BUCKET_FULL = "XMinioStorageFull"
"""MinIO's error code with status 507."""


_ACCESS_DENIED = re.compile(r"\bcode: AccessDenied\b|<Code>AccessDenied</Code>")
"""S3's answer to a listing and a deletion without the right, of which obstore has no class."""

_ABORTING = re.compile(r"\bperforming DELETE\b")
"""While a file is written: obstore tidies up after chunks that ended in an exception."""


class Right(StrEnum):
    """A right in a bucket, with S3's name."""

    READ = "read files (s3:GetObject)"
    WRITE = "write files (s3:PutObject)"
    DELETE = "delete files (s3:DeleteObject)"
    LIST = "list files (s3:ListBucket)"
    ABORT = "delete the parts of a file that broke off (s3:AbortMultipartUpload)"
    COPY = "copy files (s3:GetObject and s3:PutObject)"


class RightMissing(BaseError):
    """A bucket refuses a right; the message is a predicate: "does not let the service ..."."""

    def __init__(self, right: Right) -> None:
        super().__init__(f"does not let the service {right}")


@contextmanager
def naming(right: Right) -> Iterator[None]:
    """
    Name the right, where a bucket refuses it.

    Raises:
        RightMissing: The credentials are good, and lack the right.
        obstore.exceptions.BaseError: Any other failure, unchanged.
    """
    try:
        yield
    except BaseError as error:
        if isinstance(error, PermissionDeniedError) or _ACCESS_DENIED.search(str(error)):
            aborts = right is Right.WRITE and _ABORTING.search(str(error))
            raise RightMissing(Right.ABORT if aborts else right) from None
        raise


@contextmanager
def as_os_errors(right: Right) -> Iterator[None]:
    """
    Raise an operating system's refusal, here or in a bucket, as an `OSError` with its number.

    Raises:
        OSError: The system's refusal, without a path.
        RightMissing: See `naming`.
        obstore.exceptions.BaseError: Any other failure, unchanged.
    """
    try:
        yield
    except BaseError as error:
        told = _errno(str(error))
        if told is not None:
            raise OSError(told, os.strerror(told)) from None
        with naming(right):
            raise


def _errno(said: str) -> int | None:
    if _BUCKET_FULL in said:
        return errno.ENOSPC
    number = _OS_ERROR.search(said)
    return None if number is None else int(number[1])
