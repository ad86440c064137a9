"""
The SFTP server's host keys: drawn by the first server to start, and kept in the ledger.

Release 0.1.0 kept them as files beside each server. The first server that finds such files brings
them into the ledger, so that partners see the same keys; the files stay, for that release.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

import asyncssh
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.sftp.public_key import check_strength
from segments.ledger.database.engine import reading
from segments.ledger.live_audience.host_keys import ALGORITHMS, keep_first_key, private_keys
from segments.model.refusal import Refusal

_log = logging.getLogger(__name__)

EARLIER_FILES: Final = {
    "ssh-ed25519": "host_key",
    "ecdsa-sha2-nistp256": "host_key_ecdsa",
    "ssh-rsa": "host_key_rsa",
}
_RSA_BITS: Final = 3072


async def host_keys(ledger: AsyncEngine, folder: Path, *, now_s: float) -> list[asyncssh.SSHKey]:
    """
    Return the host keys of all servers of a ledger; take in or draw those that it lacks.

    `folder` may have release 0.1.0's keys. A file that differs from the ledger's key is logged.
    """
    earlier = await asyncio.to_thread(_earlier_keys, folder)
    async with reading(ledger) as conn:
        kept = await private_keys(conn)
    missing = [algorithm for algorithm in ALGORITHMS if algorithm not in kept]
    if missing:
        found = {each: key for each, key in earlier.items() if each in missing}
        for each in missing:
            if each not in found:
                found[each] = await asyncio.to_thread(draw, each)
        async with ledger.begin() as conn:
            for each, key in found.items():
                await keep_first_key(conn, each, key.export_private_key(), now_s=now_s)
            kept = await private_keys(conn)
    keys = [asyncssh.import_private_key(content) for content in kept.values()]
    for key in keys:
        file = earlier.get(key.get_algorithm())
        if file is not None and file.get_fingerprint() != key.get_fingerprint():
            _log.warning(
                "the host key in %s is not used: the ledger has another, %s; to use the file's,"
                " `rtb-segments key host --replace FILE`, then start the SFTP servers again",
                folder / EARLIER_FILES[key.get_algorithm()],
                key.get_fingerprint(),
            )
    return keys


def draw(algorithm: str) -> asyncssh.SSHKey:
    """Generate a key; RSA takes up to some seconds."""
    size = {"key_size": _RSA_BITS} if algorithm == "ssh-rsa" else {}
    return asyncssh.generate_private_key(algorithm, comment="rtb-segments sftp", **size)


def own_key(content: bytes) -> asyncssh.SSHKey:
    """
    Read an operator's own host key.

    Raises:
        Refusal: It is no private key, is weak, has a passphrase or is of another algorithm.
    """
    try:
        key = asyncssh.import_private_key(content)
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError, ValueError):
        raise Refusal(
            "this is no private key of ssh-keygen, or has a passphrase, which ssh-keygen -p removes"
        ) from None
    if key.get_algorithm() not in ALGORITHMS:
        raise Refusal(f"a host key is one of {', '.join(ALGORITHMS)}, not {key.get_algorithm()}")
    check_strength(key)
    return key


def _earlier_keys(folder: Path) -> dict[str, asyncssh.SSHKey]:
    paths = {algorithm: folder / name for algorithm, name in EARLIER_FILES.items()}
    return {each: asyncssh.read_private_key(at) for each, at in paths.items() if at.exists()}
