"""
TLS of our own doors: a certificate chain and its key, checked before a door opens.

Two variables a door, `<DOOR>_TLS_CERT` and `<DOOR>_TLS_KEY`, both or neither. What
can't be served with is found out at the start, in one line that names the
variable, and not by the first client. A passphrase is never asked for: nobody
sits at a service's terminal.

Read when a process starts, so a renewed certificate is served after a restart; by
the bid listener after SIGHUP, too, which replaces the processes that serve it.
"""

import ssl
from pathlib import Path
from typing import NamedTuple, NoReturn

MINIMUM_VERSION = ssl.TLSVersion.TLSv1_2


class UnusableTls(Exception):
    """A door can't be opened with these files; the message names the variable and the reason."""


class TlsFiles(NamedTuple):
    """The files that one door is told to serve with."""

    door: str
    """What the variables begin with: `RTB` of `RTB_TLS_CERT` and `RTB_TLS_KEY`."""

    cert: Path
    """PEM: the certificate, and behind it the intermediate ones."""

    key: Path
    """PEM, without a passphrase."""

    def context(self) -> ssl.SSLContext:
        """
        Return what a server's sockets are wrapped with: TLS 1.2 or newer, HTTP/1.1.

        Raises:
            UnusableTls: A file can't be read, is not PEM, or belongs to another.
        """
        for variable, path in ((self._cert, self.cert), (self._key, self.key)):
            try:
                path.read_bytes()
            except OSError as error:
                raise UnusableTls(f"{variable}: {error.strerror}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = MINIMUM_VERSION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.cert, self.key, self._refuse_passphrase)
        except ssl.SSLError as error:
            raise UnusableTls(self._reason(error)) from None
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


def tls_files(door: str, cert: Path | None, key: Path | None) -> TlsFiles | None:
    """
    Return the files that a door is told to serve with; `None`: it serves without TLS.

    Raises:
        ValueError: One is set without the other.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        is_set, is_not = ("KEY", "CERT") if cert is None else ("CERT", "KEY")
        raise ValueError(f"{door}_TLS_{is_not}: not set, while {door}_TLS_{is_set} is")
    return TlsFiles(door, cert, key)


def context_of(files: TlsFiles | None) -> ssl.SSLContext | None:
    """
    Return what a door's sockets are wrapped with, `None` where it serves without TLS.

    Raises:
        UnusableTls: See `TlsFiles.context`.
    """
    return None if files is None else files.context()
