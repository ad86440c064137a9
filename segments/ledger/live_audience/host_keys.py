"""
The SFTP servers' host keys, the same for all replicas: one of each algorithm.

A new key would look like a man in the middle. Clients support ed25519, ECDSA over nistp256
(required by RFC 5656, 10.1) and RSA (RFC 8332), older Java clients only the last.
"""

import base64
import hashlib
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.signing_secrets import keep_first, kept_secrets, replace_secret

ALGORITHMS: Final = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")


class Fingerprint(NamedTuple):
    """By which a partner trusts the server."""

    algorithm: str
    fingerprint: str  # SHA256:..., as ssh-keygen prints it


async def fingerprints(conn: AsyncConnection) -> list[Fingerprint]:
    """Return the host keys' fingerprints; none before an SFTP server's first start."""
    kept = await private_keys(conn)
    return [Fingerprint(algorithm, fingerprint_of(key)) for algorithm, key in kept.items()]


async def private_keys(conn: AsyncConnection) -> dict[str, bytes]:
    """Return the private keys in OpenSSH's format, by algorithm, so far."""
    kept = await kept_secrets(conn, map(_name, ALGORITHMS))
    return {each: kept[_name(each)] for each in ALGORITHMS if _name(each) in kept}


async def keep_first_key(
    conn: AsyncConnection, algorithm: str, private_key: bytes, *, now_s: float
) -> None:
    """Keep a key, unless there is one of this algorithm. `conn` is a transaction."""
    await keep_first(conn, _name(algorithm), private_key, now_s=now_s)


async def replace_key(
    conn: AsyncConnection, algorithm: str, private_key: bytes, *, now_s: float
) -> None:
    """Keep a key in place of the present one of this algorithm. `conn` is a transaction."""
    await replace_secret(conn, _name(algorithm), private_key, now_s=now_s)


def fingerprint_of(private_key: bytes) -> str:
    """Return a key's fingerprint; the key is in OpenSSH's format, without a passphrase."""
    # Imported here: it takes megabytes, and few processes need it.
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        PublicFormat,
        load_ssh_private_key,
    )

    public_key = load_ssh_private_key(private_key, None).public_key()
    _, blob, *_ = public_key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()
    digest = hashlib.sha256(base64.b64decode(blob)).digest()
    return f"SHA256:{base64.b64encode(digest).rstrip(b'=').decode()}"


def _name(algorithm: str) -> str:
    return f"sftp host key {algorithm}"
