import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from segments.runtime.tls import TlsFiles, UnusableTls, context_of, tls_files
from tests.tls import TestCa


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa.in_folder(tmp_path_factory.mktemp("tls"))


def refusal(cert: Path, key: Path) -> str:
    with pytest.raises(UnusableTls) as refused:
        TlsFiles("RTB", cert, key).context()
    return str(refused.value)


def test_a_door_without_files_has_no_tls() -> None:
    assert context_of(tls_files("RTB", None, None)) is None


def test_nothing_older_than_tls_1_2_is_spoken(ca: TestCa) -> None:
    context = context_of(tls_files("RTB", ca.cert, ca.key))

    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("cert", "key", "expected"),
    [
        pytest.param(Path("a"), None, "RTB_TLS_KEY: not set, while RTB_TLS_CERT is", id="no key"),
        pytest.param(None, Path("a"), "RTB_TLS_CERT: not set, while RTB_TLS_KEY is", id="no cert"),
    ],
)
def test_half_of_a_pair_is_refused(cert: Path | None, key: Path | None, expected: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - its whole text is compared
        tls_files("RTB", cert, key)

    assert str(refused.value) == expected


def test_file_that_is_not_there_is_named_by_its_variable(ca: TestCa, tmp_path: Path) -> None:
    gone = tmp_path / "gone"

    assert refusal(gone, ca.key) == "RTB_TLS_CERT: No such file or directory"
    assert refusal(ca.cert, gone) == "RTB_TLS_KEY: No such file or directory"
    assert refusal(tmp_path, ca.key) == "RTB_TLS_CERT: Is a directory"


def test_file_that_is_no_pem_is_named_by_its_variable(ca: TestCa, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_text("garbage")

    assert refusal(garbage, ca.key) == "RTB_TLS_CERT: not a certificate in PEM"
    assert refusal(ca.cert, garbage).startswith("RTB_TLS_KEY: not a private key in PEM")
    assert refusal(ca.cert, ca.cert).startswith("RTB_TLS_KEY: not a private key in PEM")


def test_key_of_another_certificate_is_refused(ca: TestCa, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(trustme.CA().issue_cert("localhost").private_key_pem.bytes())

    assert refusal(ca.cert, other) == (
        "RTB_TLS_KEY: not the key of the certificate of RTB_TLS_CERT"
    )


def test_passphrase_is_not_asked_for(ca: TestCa, tmp_path: Path) -> None:
    key = load_pem_private_key(ca.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )

    assert refusal(ca.cert, locked) == "RTB_TLS_KEY: has a passphrase; write it without one"
