"""What `ssh-keygen` prints into a `.pub` file: which keys open the SFTP door."""

import asyncssh

from segments.ledger.live_audience.ssh_keys import SshKey
from segments.model.refusal import Refusal

MAX_KEY_BYTES = 4096
_MIN_RSA_BITS = 2048
_ALGORITHMS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-ed25519", "sk-ecdsa-sha2-")


def read_public_key(raw: bytes, account_id: int) -> SshKey:
    """
    Read one public key, OpenSSH's form or RFC 4716's.

    Raises:
        Refusal: It is none, or one that is not strong enough.
    """
    if b"PRIVATE KEY" in raw:
        raise Refusal("this is a private key, which its owner keeps; give the .pub file")
    if len(raw) > MAX_KEY_BYTES:
        raise Refusal(f"more than {MAX_KEY_BYTES} bytes: not one public key")
    try:
        key = asyncssh.import_public_key(raw)
    except (asyncssh.KeyImportError, ValueError):
        raise Refusal("not a public key as ssh-keygen writes it") from None
    algorithm = key.get_algorithm()
    if not algorithm.startswith(_ALGORITHMS):
        raise Refusal(f"a key of type {algorithm}; use ed25519, ECDSA or RSA")
    if algorithm == "ssh-rsa" and getattr(key.pyca_key, "key_size", 0) < _MIN_RSA_BITS:
        raise Refusal(f"an RSA key of less than {_MIN_RSA_BITS} bits")
    comment = "".join(c for c in key.get_comment() or "" if c.isprintable())[:256]
    exported = key.export_public_key().decode().strip()
    return SshKey(account_id, key.get_fingerprint(), exported, comment)
