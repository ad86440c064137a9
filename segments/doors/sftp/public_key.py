"""
Parses public keys for the SFTP door: `ssh-keygen`'s `.pub` files and `authorized_keys` files.

Files may be UTF-8 with or without a byte order mark, or UTF-16, as editors save them. An invalid
line is refused with its number, so that no key is silently left out.
"""

import codecs

import asyncssh

from segments.doors.sftp.key_options import read_options, split_options
from segments.ledger.live_audience.ssh_keys import SshKey
from segments.model.refusal import Refusal

MAX_FILE_BYTES = 1 << 18
_MAX_LINE_CHARS = 4096
_MIN_RSA_BITS = 2048
_ALGORITHMS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-ed25519", "sk-ecdsa-sha2-")
_RFC_4716 = "---- BEGIN SSH2 PUBLIC KEY ----"
_RFC_4716_END = "---- END SSH2 PUBLIC KEY ----"


def read_public_keys(raw: bytes, account_id: int) -> list[SshKey]:
    """
    Parse a file's public keys, in OpenSSH's form or RFC 4716's.

    Raises:
        Refusal: A line is no public key, or too weak a key; the message has its number.
    """
    if len(raw) > MAX_FILE_BYTES:
        raise Refusal(f"more than {MAX_FILE_BYTES} bytes: no file of public keys")
    text = _text_of(raw)
    if "PRIVATE KEY" in text:
        raise Refusal("this is a private key, which its owner keeps; give the .pub file")
    found: list[SshKey] = []
    for number, block in _blocks(text):
        try:
            key = _read(block, account_id)
        except Refusal as refusal:
            raise Refusal(f"line {number}: {refusal}") from None
        if key.fingerprint not in {each.fingerprint for each in found}:
            found.append(key)
    if not found:
        raise Refusal("not a public key as ssh-keygen writes it")
    return found


def check_strength(key: asyncssh.SSHKey) -> None:
    """
    Refuse a weak key.

    Raises:
        Refusal: An RSA key of too few bits.
    """
    if key.get_algorithm() == "ssh-rsa" and getattr(key.pyca_key, "key_size", 0) < _MIN_RSA_BITS:
        raise Refusal(f"an RSA key of less than {_MIN_RSA_BITS} bits")


def _text_of(raw: bytes) -> str:
    encoding = "utf-8-sig"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif raw[1:2] == b"\0":
        encoding = "utf-16-le"
    elif raw[:1] == b"\0":
        encoding = "utf-16-be"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        raise Refusal("neither UTF-8 nor UTF-16: no public key as ssh-keygen writes it") from None


def _blocks(text: str) -> list[tuple[int, str]]:
    blocks: list[tuple[int, str]] = []
    of_rfc_4716: list[str] = []
    begins_at = 0
    for number, raw_line in enumerate(text.splitlines(), 1):
        line = raw_line.strip()
        if line == _RFC_4716:
            of_rfc_4716, begins_at = [line], number
        elif of_rfc_4716:
            of_rfc_4716.append(line)
            if line == _RFC_4716_END:
                blocks.append((begins_at, "\n".join([*of_rfc_4716, ""])))
                of_rfc_4716 = []
        elif line and not line.startswith("#"):
            blocks.append((number, line))
    if of_rfc_4716:
        raise Refusal(f"line {begins_at}: the key that begins here has no end")
    return blocks


def _read(block: str, account_id: int) -> SshKey:
    if len(block) > _MAX_LINE_CHARS:
        raise Refusal(f"more than {_MAX_LINE_CHARS} characters: not one public key")
    options, key = "", _imported(block)
    if key is None:
        options, rest = split_options(block)
        key = _imported(rest)
        if key is None:
            raise Refusal("not a public key as ssh-keygen writes it")
        read_options(options)
    algorithm = key.get_algorithm()
    if not algorithm.startswith(_ALGORITHMS):
        raise Refusal(f"a key of type {algorithm}; use ed25519, ECDSA or RSA")
    check_strength(key)
    comment = "".join(c for c in key.get_comment() or "" if c.isprintable())[:256]
    exported = f"{options} {key.export_public_key().decode()}".strip()
    return SshKey(account_id, key.get_fingerprint(), exported, comment)


def _imported(text: str) -> asyncssh.SSHKey | None:
    try:
        return asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, ValueError):
        return None
