"""
The SFTP server's host keys, generated once and kept.

Clients remember them; a new key would look like a man in the middle. Each kind that clients
support: ed25519, ECDSA over nistp256 (required by RFC 5656, 10.1) and RSA (RFC 8332), the only
kind of older Java clients.
"""

import os
from pathlib import Path
from typing import NamedTuple

import asyncssh


class _Kind(NamedTuple):
    file_name: str
    algorithm: str
    size_bits: int | None = None


_KINDS = (
    _Kind("host_key", "ssh-ed25519"),
    _Kind("host_key_ecdsa", "ecdsa-sha2-nistp256"),
    _Kind("host_key_rsa", "ssh-rsa", 3072),
)


def host_keys(folder: Path) -> list[asyncssh.SSHKey]:
    """Return the host keys of a folder; generate missing ones."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [_host_key(folder / kind.file_name, kind) for kind in _KINDS]


def _host_key(path: Path, kind: _Kind) -> asyncssh.SSHKey:
    if not path.exists():
        size = {} if kind.size_bits is None else {"key_size": kind.size_bits}
        made = asyncssh.generate_private_key(kind.algorithm, comment="rtb-segments sftp", **size)
        mine = path.with_name(f"{path.name}.{os.getpid()}")
        fd = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(made.export_private_key())
            file.flush()
            os.fsync(fd)
        try:
            # Of two processes that start at once, the first key is kept.
            os.link(mine, path)
        except FileExistsError:
            pass
        finally:
            mine.unlink()
    return asyncssh.read_private_key(path)
