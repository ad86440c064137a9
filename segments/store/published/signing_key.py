"""The private key that signs `LATEST`: a PEM file that only its owner may read."""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

_MAX_BYTES = 10_000


class UnusableKey(Exception):
    """A file without a usable key; the message names the file and the reason."""


def make_key(path: Path) -> Ed25519PrivateKey:
    """
    Generate a key and write it into a new file.

    Raises:
        UnusableKey: The file exists already, or can't be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UnusableKey(f"{path} is there already: name a new file") from None
    except OSError as error:
        raise UnusableKey(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(opened, "wb") as file:
            file.write(pem)
    except OSError as error:
        path.unlink()
        raise UnusableKey(f"{path}: {error.strerror}") from None
    return key


def read_key(path: Path) -> Ed25519PrivateKey:
    """
    Read a key that `make_key` or `openssl genpkey -algorithm ed25519` has written.

    Raises:
        UnusableKey: The file has no such key, or every user may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(_MAX_BYTES)
    except OSError as error:
        raise UnusableKey(f"{path}: {error.strerror}") from None
    if mode & stat.S_IROTH:
        raise UnusableKey(f"{path}: every user of this machine may read it; chmod 600 it")
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableKey(f"{path}: not a private key as PEM without a passphrase") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UnusableKey(f"{path}: a private key of another kind than Ed25519")
    return key
