"""
The names in a client's certificate, spelled as an operator binds a recipient to them.

    dns:bidder.example               a subjectAltName, by its kind (RFC 5280, 4.2.1.6)
    uri:spiffe://example/bidder
    email:ops@bidder.example
    subject:CN=bidder,O=Example      the whole subject, as RFC 4514 writes it

Names are compared whole, with their kind and without patterns: `*.example` is literal, and an
e-mail address is no host. Host names are compared in lower case (RFC 5280, 7.2), others verbatim. A
subject's common name alone does not count: many authorities copy it from the client's request.
"""

from asyncio import BaseTransport
from typing import Final

from cryptography import x509

DNS: Final = "dns:"
URI: Final = "uri:"
EMAIL: Final = "email:"
SUBJECT: Final = "subject:"

_MAX_CHARS: Final = 512


class BadName(ValueError):
    """Not a certificate's name; the message explains the fault."""


def names_of_client(transport: BaseTransport) -> frozenset[str] | None:
    """Return the names in the client's certificate; `None` without a certificate or TLS."""
    tls = transport.get_extra_info("ssl_object")
    der = None if tls is None else tls.getpeercert(binary_form=True)
    return None if der is None else names_of(der)


def names_of(der: bytes) -> frozenset[str]:
    """Return the readable names of a certificate, whose signature has been checked."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = _alternative_names(certificate)
        if subject := certificate.subject.rfc4514_string():
            names.append(SUBJECT + subject)
    except ValueError:
        return frozenset()
    return frozenset(names)


def san(text: str) -> str:
    """
    Parse a subjectAltName that an operator typed.

    Raises:
        BadName: Not of a kind above, or empty.
    """
    kind, colon, name = text.partition(":")
    prefix = kind.lower() + colon
    if prefix not in (DNS, URI, EMAIL) or not name.strip() or len(text) > _MAX_CHARS:
        raise BadName(f"{text[:_MAX_CHARS]!r}: dns:NAME, uri:NAME or email:NAME")
    name = name.strip()
    return prefix + (name.lower() if prefix == DNS else name)


def subject(text: str) -> str:
    """
    Parse a subject that an operator typed, as of RFC 4514 and `openssl -nameopt RFC2253`.

    Raises:
        BadName: Not a subject.
    """
    try:
        written = x509.Name.from_rfc4514_string(text).rfc4514_string()
    except ValueError:
        written = ""
    if not written or len(text) > _MAX_CHARS:
        raise BadName(
            f"{text[:_MAX_CHARS]!r}: a subject as `openssl x509 -noout -subject -nameopt RFC2253`"
            " writes it: CN=bidder,O=Example"
        )
    return SUBJECT + written


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *(DNS + name.lower() for name in found.get_values_for_type(x509.DNSName)),
        *(URI + name for name in found.get_values_for_type(x509.UniformResourceIdentifier)),
        *(EMAIL + name for name in found.get_values_for_type(x509.RFC822Name)),
    ]
