"""A certificate authority of the tests, and a server's certificate of it, as files."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID


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

    def client(self, certificate: Path | None = None) -> ssl.SSLContext:
        """Trust this authority, and no other; show a certificate, if there is one."""
        context = ssl.create_default_context(cafile=self.bundle)
        context.set_alpn_protocols(["http/1.1"])
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    def certificate(
        self,
        name: str,
        *alternatives: x509.GeneralName,
        subject: str = "",
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        days: tuple[int, int] = (-1, 1),
    ) -> Path:
        """Sign a certificate of a client, and write it with its key into one file."""
        issuer = x509.load_pem_x509_certificate(self.ca.cert_pem.bytes())
        signer = load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string(subject))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        signed = builder.sign(signer, SHA256())
        path = self.cert.parent / f"{name}.pem"
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + signed.public_bytes(Encoding.PEM)
        )
        return path
