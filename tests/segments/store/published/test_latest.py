"""`LATEST` is trusted if a trusted key has signed it, and in no other case."""

import json
import resource
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from segments.store.published import latest as form
from segments.store.published.form import DamagedFile, NewerFile
from segments.store.published.latest import (
    Keys,
    Latest,
    NotSigned,
    PublishedFile,
    number_in,
    public_text,
    read,
    sign,
)
from segments.store.published.signing_key import UnusableKey, make_key, read_key

KEY = Ed25519PrivateKey.generate()
TRUSTED = Keys.of([public_text(KEY.public_key())])
DIGEST = "0" * 64


def increment(behind: int, number: int) -> PublishedFile:
    """Return an increment from one state to another."""
    return PublishedFile(number, 10, DIGEST, behind)


LATEST = Latest(
    ledger="l",
    number=50,
    made_at_s=1000.5,
    opt_outs=7,
    full=PublishedFile(30, 10, DIGEST),
    increments=(increment(20, 30), increment(30, 40), increment(40, 50)),
)
SIGNED = sign(LATEST, KEY)


def test_what_is_signed_is_read() -> None:
    assert read(SIGNED, TRUSTED) == LATEST
    assert [file.name for file in (LATEST.full, LATEST.increments[0])] == [
        "full-30.seg",
        "increment-30.seg",
    ]


def test_it_is_json_that_people_can_read() -> None:
    assert json.loads(SIGNED)["latest"]["opt_outs"] == 7


def test_any_of_several_trusted_keys_will_do() -> None:
    other = Ed25519PrivateKey.generate().public_key()

    assert read(SIGNED, Keys.of([public_text(other), public_text(KEY.public_key())])) == LATEST


def test_another_key_is_not_believed() -> None:
    with pytest.raises(NotSigned, match="RTB_FOLLOW_KEYS"):
        read(sign(LATEST, Ed25519PrivateKey.generate()), TRUSTED)


@given(st.integers(0, len(SIGNED) - 2), st.integers(1, 255))
def test_changed_byte_is_never_believed(at: int, by: int) -> None:
    changed = SIGNED[:at] + bytes([SIGNED[at] ^ by]) + SIGNED[at + 1 :]
    try:
        assert read(changed, TRUSTED) == LATEST  # as with a blank for a line's end
    except (NotSigned, DamagedFile):
        return
    assert json.loads(changed)["latest"] == json.loads(SIGNED)["latest"]


@given(st.binary(max_size=200) | st.integers(0, len(SIGNED) - 2).map(lambda at: SIGNED[:at]))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises((DamagedFile, NotSigned)):
        read(noise, TRUSTED)


def test_schema_of_the_future_is_refused_by_name_whatever_else_it_has() -> None:
    said = msgspec.json.encode({"schema": 2, "files": []})
    raw = msgspec.json.encode(
        {"latest": msgspec.Raw(said), "signature": _signature(form._DOMAIN + said)}
    )

    with pytest.raises(NewerFile, match="schema 2 and this software reads schema 1"):
        read(raw, TRUSTED)


@pytest.mark.parametrize("nested", [b"[" * 3_000, b'{"latest":' * 3_000], ids=["arrays", "objects"])
def test_deep_nesting_is_damage_and_ends_no_follower(nested: bytes) -> None:
    said = b'{"schema":1,"more":%b' % nested
    signature = _signature(form._DOMAIN + said).encode()
    for raw in (nested, b'{"latest":%b,"signature":"%b"}' % (said, signature)):
        with pytest.raises(DamagedFile, match="LATEST can't be read"):
            read(raw, TRUSTED)


def test_text_that_is_no_utf8_is_damage_though_it_is_signed() -> None:
    said = msgspec.json.encode(LATEST).replace(LATEST.ledger.encode(), b"\xff")
    raw = b'{"latest":%b,"signature":"%b"}' % (said, _signature(form._DOMAIN + said).encode())

    with pytest.raises(DamagedFile, match="LATEST can't be read"):
        read(raw, TRUSTED)


def test_signature_of_something_else_is_none_of_latest() -> None:
    said = msgspec.json.encode(LATEST)
    raw = msgspec.json.encode({"latest": msgspec.Raw(said), "signature": _signature(said)})

    with pytest.raises(NotSigned):
        read(raw, TRUSTED)


def _signature(said: bytes) -> str:
    return b64encode(KEY.sign(said)).decode()


@pytest.mark.parametrize(
    "wrong",
    [
        replace(LATEST, full=increment(1, 30)),
        replace(LATEST, increments=(increment(30, 40), increment(45, 50))),
        replace(LATEST, increments=(increment(40, 50),)),  # nothing leads there from the full
        replace(LATEST, number=49),
        replace(LATEST, opt_outs=-1),
        replace(LATEST, full=PublishedFile(30, 0, DIGEST)),
        replace(LATEST, full=PublishedFile(30, 10, "../../etc")),
        replace(LATEST, increments=(PublishedFile(50, 10, DIGEST),)),
    ],
)
def test_what_no_version_writes_is_refused_though_it_is_signed(wrong: Latest) -> None:
    with pytest.raises(DamagedFile, match="no version writes"):
        read(sign(wrong, KEY), TRUSTED)


@dataclass(frozen=True)
class Way:
    """From a state, by which states."""

    start: int
    through: list[int] | None


@pytest.mark.parametrize(
    "way",
    [
        Way(20, [30, 40, 50]),  # before the full, and still by increments alone
        Way(30, [40, 50]),
        Way(50, []),
        Way(10, None),
        Way(35, None),
        Way(60, None),
    ],
)
def test_way_leads_from_a_known_state_to_the_newest(way: Way) -> None:
    found = LATEST.way_from(way.start)

    assert (None if found is None else [file.number for file in found]) == way.through


def test_names_of_files_are_told_from_others() -> None:
    assert number_in("full-30.seg") == 30
    assert number_in("increment-30.seg") == 30
    assert [number_in(name) for name in ("LATEST", "full-030.seg", "full-1.seg.tmp", "../x")] == [
        None
    ] * 4


@pytest.mark.parametrize(
    "text",
    ["", "AAAA", "not base64!", public_text(KEY.public_key())[:-2]],
    ids=["nothing", "too short", "no base64", "cut short"],  # a key is another in each process
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="key publish"):
        Keys.of([text])


def test_no_key_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no public key"):
        Keys.of([])


def test_made_key_signs_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    made = make_key(file)

    again = read_key(file)

    assert file.stat().st_mode & 0o777 == 0o600
    assert read(sign(LATEST, again), Keys.of([public_text(made.public_key())])) == LATEST
    with pytest.raises(UnusableKey, match="already"):
        make_key(file)


def test_file_without_a_key_that_can_sign_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    with pytest.raises(UnusableKey, match="No such file"):
        read_key(file)
    file.write_bytes(b"not a key")
    file.chmod(0o600)
    with pytest.raises(UnusableKey, match="not a private key"):
        read_key(file)
    rsa = generate_private_key(65537, 2048)
    file.write_bytes(rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(UnusableKey, match="another kind"):
        read_key(file)
    file.chmod(0o644)
    with pytest.raises(UnusableKey, match="chmod"):
        read_key(file)


def test_key_that_can_not_be_written_leaves_no_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # as on a full disk
    try:
        with pytest.raises(UnusableKey, match="File too large"):
            make_key(tmp_path / "key.pem")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not (tmp_path / "key.pem").exists()
    make_key(tmp_path / "key.pem")
