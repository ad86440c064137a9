"""
TLS of our own doors: a certificate chain and its key, checked before a door opens.

Each door has two variables, `<DOOR>_TLS_CERT` and `<DOOR>_TLS_KEY`: both or neither. Unusable files
are reported at the start, with the variable's name. A service never asks for a passphrase.

Files are read at a process's start, so a renewed certificate takes a restart; for the bid listener
SIGHUP is enough, which replaces its workers.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

MINIMUM_VERSION = ssl.TLSVersion.TLSv1_2

_ALPN = ("http/1.1",)


class UnusableTls(Exception):
    """These files can't open a door; the message names the variable and the reason."""


class TlsFiles(NamedTuple):
    """The files of a door."""

    door: str
    """The prefix of the variables: `RTB` of `RTB_TLS_CERT` and `RTB_TLS_KEY`."""

    cert: Path
    """PEM: the certificate, then the intermediate ones."""

    key: Path
    """PEM, without a passphrase."""

    client_ca: Path | None = None
    """PEM: authorities of client certificates, which are optional; unset: not requested."""

    def context(self, alpn: Sequence[str] = _ALPN) -> ssl.SSLContext:
        """
        Return the context of a server's sockets: TLS 1.2 or newer; `alpn` by preference.

        Raises:
            UnusableTls: A file can't be read, is not PEM, or does not match another.
        """
        files = [(self._cert, self.cert), (self._key, self.key)]
        if self.client_ca is not None:
            files.append((self._client_ca, self.client_ca))
        for variable, path in files:
            try:
                path.read_bytes()
            except OSError as error:
                raise UnusableTls(f"{variable}: {error.strerror}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = MINIMUM_VERSION
        context.set_alpn_protocols(alpn)
        try:
            context.load_cert_chain(self.cert, self.key, self._refuse_passphrase)
        except ssl.SSLError as error:
            raise UnusableTls(self._reason(error)) from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except ssl.SSLError:
                raise UnusableTls(f"{self._client_ca}: not certificates in PEM") from None
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _refuse_passphrase(self) -> NoReturn:
        raise UnusableTls(f"{self._key}: has a passphrase; write it without one")

    def _reason(self, error: ssl.SSLError) -> str:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"{self._key}: not the key of the certificate of {self._cert}"
        try:
            ssl.create_default_context(cafile=self.cert)
        except ssl.SSLError:
            return f"{self._cert}: not a certificate in PEM"
        return f"{self._key}: not a private key in PEM, or not one that TLS takes"

    @property
    def _cert(self) -> str:
        return f"{self.door}_TLS_CERT"

    @property
    def _key(self) -> str:
        return f"{self.door}_TLS_KEY"

    @property
    def _client_ca(self) -> str:
        return f"{self.door}_TLS_CLIENT_CA"


def tls_files(
    door: str, cert: Path | None, key: Path | None, client_ca: Path | None = None
) -> TlsFiles | None:
    """
    Return a door's files; `None` if it serves without TLS.

    Raises:
        ValueError: One is set without the other.
    """
    if cert is None and key is None:
        if client_ca is not None:
            raise ValueError(f"{door}_TLS_CERT: not set, while {door}_TLS_CLIENT_CA is")
        return None
    if cert is None or key is None:
        is_set, is_not = ("KEY", "CERT") if cert is None else ("CERT", "KEY")
        raise ValueError(f"{door}_TLS_{is_not}: not set, while {door}_TLS_{is_set} is")
    return TlsFiles(door, cert, key, client_ca)


def context_of(files: TlsFiles | None, alpn: Sequence[str] = _ALPN) -> ssl.SSLContext | None:
    """
    Return the context of a door's sockets; `None` if it serves without TLS.

    Raises:
        UnusableTls: See `TlsFiles.context`.
    """
    return None if files is None else files.context(alpn)
