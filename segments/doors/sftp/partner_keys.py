"""
Authorization by keys and certificates: which ones open a partner's folder.

asyncssh itself checks signatures, a certificate's validity and `source-address`, and refuses
unknown critical options.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import asyncssh

from segments.doors.sftp.key_options import KeyOptions, read_options, split_options
from segments.ledger.live_audience.ssh_keys import SshKey


class PartnerKeys(asyncssh.SSHAuthorizedKeys):
    """The keys of the partner that a client claims to be."""

    def __init__(
        self, username: str, keys: Sequence[SshKey], now_s: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self.accepted: SshKey | None = None
        """The last key accepted: the client's, once it has logged in."""

        self._username = username
        self._now_s = now_s
        self._fingerprint_to_key = {key.fingerprint: (key, options_of(key)) for key in keys}

    def validate(
        self,
        key: asyncssh.SSHKey,
        client_host: str,
        client_addr: str,
        cert_principals: Sequence[str] | None = None,
        ca: bool = False,
    ) -> Any:
        """
        Decide whether a key, or a certificate signed by it, may be used.

        Returns:
            The options for asyncssh to enforce; `None` if not.
        """
        known, options = self._fingerprint_to_key.get(key.get_fingerprint(), (None, None))
        if options is None or not options.permits(client_addr, self._now_s()):
            return None
        if options.is_authority is not ca:
            return None  # an authority only signs, and only an authority signs
        if ca and not options.permits_certificate(self._username, tuple(cert_principals or ())):
            return None
        self.accepted = known
        # With `principals`, asyncssh does not require the user name as a principal.
        return {"principals": True} if options.principals is not None else {}

    def validate_x509(self, cert: Any, client_host: str, client_addr: str) -> Any:
        """Refuse: only OpenSSH certificates are supported."""
        return None, None


def options_of(key: SshKey) -> KeyOptions:
    """Return the options of a key's line."""
    if key.public_key.startswith(("ssh-", "ecdsa-", "sk-")):
        return KeyOptions()
    return read_options(split_options(key.public_key)[0])
