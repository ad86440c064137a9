"""A certificate authority of the tests, and a server's certificate of it, as files."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class TestCa:
    """An authority, and where a certificate of it for this machine lies."""

    __test__ = False

    ca: trustme.CA
    cert: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "TestCa":
        ca = trustme.CA()
        folder.mkdir(parents=True, exist_ok=True)
        issued = ca.issue_cert("localhost", "127.0.0.1")
        cert, key = folder / "server.pem", folder / "server.key"
        cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        return cls(ca, cert, key)

    @property
    def bundle(self) -> Path:
        """What a client is told to trust."""
        return self.cert.parent / "ca.pem"

    def client(self) -> ssl.SSLContext:
        """Trust this authority, and no other."""
        context = ssl.create_default_context(cafile=self.bundle)
        context.set_alpn_protocols(["http/1.1"])
        return context
