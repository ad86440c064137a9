import codecs
from pathlib import Path

import pytest

from segments.doors.sftp.partner_keys import options_of
from segments.doors.sftp.public_key import MAX_FILE_BYTES, read_public_keys
from segments.model.refusal import Refusal
from tests.sftp import new_key

ACCOUNT_ID = 7


@pytest.fixture
def pubs(tmp_path: Path) -> tuple[bytes, bytes]:
    return new_key(tmp_path / "one", "-t", "ed25519"), new_key(tmp_path / "two", "-t", "ecdsa")


@pytest.mark.parametrize(
    "encode",
    [
        pytest.param(lambda text: text.encode(), id="UTF-8"),
        pytest.param(lambda text: codecs.BOM_UTF8 + text.encode(), id="UTF-8 with a mark"),
        pytest.param(lambda text: text.encode("utf-16"), id="UTF-16, as PowerShell writes"),
        pytest.param(lambda text: text.encode("utf-16-le"), id="UTF-16 without a mark"),
        pytest.param(lambda text: text.encode("utf-16-be"), id="UTF-16, the other way round"),
        pytest.param(lambda text: text.replace("\n", "\r\n").encode(), id="CR LF"),
        pytest.param(lambda text: text.replace("\n", "\r").encode(), id="CR alone"),
    ],
)
def test_every_key_of_a_file_is_read_as_editors_save_it(
    pubs: tuple[bytes, bytes], encode: object
) -> None:
    text = f"# shop's keys\n\n{pubs[0].decode()}{pubs[1].decode()}"

    found = read_public_keys(encode(text), ACCOUNT_ID)  # type: ignore[operator] # pytest's params are objects

    assert [key.public_key.split()[0] for key in found] == ["ssh-ed25519", "ecdsa-sha2-nistp256"]
    assert {key.account_id for key in found} == {ACCOUNT_ID}


def test_key_in_rfc_4716_form_is_read_beside_others(pubs: tuple[bytes, bytes]) -> None:
    lines = pubs[0].decode().split()
    of_4716 = (
        f"---- BEGIN SSH2 PUBLIC KEY ----\nComment: me\n{lines[1]}\n---- END SSH2 PUBLIC KEY ----\n"
    )

    found = read_public_keys(of_4716.encode() + pubs[1], ACCOUNT_ID)

    assert len(found) == 2


def test_key_that_a_file_has_twice_is_one(pubs: tuple[bytes, bytes]) -> None:
    assert len(read_public_keys(pubs[0] * 2, ACCOUNT_ID)) == 1


def test_options_of_a_line_are_kept_with_its_key(pubs: tuple[bytes, bytes]) -> None:
    line = b'cert-authority,principals="prod",from="10.0.0.0/8" ' + pubs[0] + pubs[1]

    authority, plain = read_public_keys(line, ACCOUNT_ID)

    options = options_of(authority)
    assert (options.is_authority, options.principals) == (True, ("prod",))
    assert options.from_patterns == ("10.0.0.0/8",)
    assert options_of(plain).is_authority is False


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda one: one + b"no key\n", "line 2: not a public key", id="a bad line"),
        pytest.param(lambda one: b"x-y " + one, "line 1: the option x-y", id="unknown option"),
        pytest.param(lambda one: b"\n\n# nothing\n", "not a public key", id="no key"),
        pytest.param(lambda one: b"-----BEGIN PRIVATE KEY-----", "private key", id="private"),
        pytest.param(lambda one: one * (MAX_FILE_BYTES // len(one) + 1), "bytes", id="too long"),
        pytest.param(lambda one: b"\xff\xfe\x00", "neither UTF-8 nor UTF-16", id="no text"),
        pytest.param(
            lambda one: b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", "has no end", id="cut short"
        ),
    ],
)
def test_file_with_a_line_that_is_no_key_is_refused_by_its_number(
    pubs: tuple[bytes, bytes], make: object, said: str
) -> None:
    with pytest.raises(Refusal, match=said):
        read_public_keys(make(pubs[0]), ACCOUNT_ID)  # type: ignore[operator] # likewise


def test_weak_key_is_refused(tmp_path: Path) -> None:
    weak = new_key(tmp_path / "weak", "-t", "rsa", "-b", "1024")

    with pytest.raises(Refusal, match="line 1: an RSA key of less than 2048 bits"):
        read_public_keys(weak, ACCOUNT_ID)
