import hashlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.model.identity import (
    ID_BYTES,
    MAX_TEXT_CHARS,
    Id,
    IdentifierKind,
    NoPerson,
    UnusableId,
    id_of_duid,
    id_of_eid,
    id_of_email_hash,
    id_of_ifa,
    id_of_phone_hash,
    parse_id,
)

EMAIL = b"someone@example.com"
MD5 = hashlib.md5(EMAIL).hexdigest()
SHA1 = hashlib.sha1(EMAIL).hexdigest()
SHA256 = hashlib.sha256(EMAIL).hexdigest()
MD5_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
SHA1_OF_NOTHING = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
SHA256_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
DUID = "df9f30ab37f2--01dwcepmbbbqm0hvj4wytvyss4"
IFA = "6D92078A-8246-4BA4-AE5B-76104861E7DC"

uuids = st.uuids().filter(lambda uuid: uuid.int)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_TEXT_CHARS)
sources = texts.map(lambda text: text.replace(":", "."))


def blake(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=ID_BYTES).digest()


@pytest.mark.parametrize(
    "digest",
    [pytest.param(MD5, id="md5"), pytest.param(SHA1, id="sha1"), pytest.param(SHA256, id="sha2")],
)
def test_id_of_an_email_hash_is_its_first_16_bytes_in_any_case(digest: str) -> None:
    expected = bytes.fromhex(digest)[:16]

    assert id_of_email_hash(digest.lower()) == expected
    assert id_of_email_hash(digest.upper()) == expected


@pytest.mark.parametrize("digits", [32, 40, 64])
@pytest.mark.parametrize("digit", ["0", "f", "F"])
def test_placeholder_is_no_person(digits: int, digit: str) -> None:
    with pytest.raises(NoPerson):
        id_of_email_hash(digit * digits)


@pytest.mark.parametrize("of_nothing", [MD5_OF_NOTHING, SHA1_OF_NOTHING, SHA256_OF_NOTHING])
def test_hash_of_nothing_is_no_person(of_nothing: str) -> None:
    """
    It is what an export makes of empty cells: whoever has no address would be one person.
    """
    with pytest.raises(NoPerson) as caught:
        id_of_email_hash(of_nothing.upper())

    assert of_nothing not in str(caught.value).lower()


def test_phone_number_of_nothing_is_no_person() -> None:
    for digest in (SHA256_OF_NOTHING, "0" * 64, "F" * 64):
        with pytest.raises(NoPerson):
            id_of_phone_hash(digest)


@pytest.mark.parametrize(
    ("id_", "expected"),
    [
        pytest.param(id_of_phone_hash(SHA256.upper()), blake("phone:" + SHA256), id="phone hash"),
        pytest.param(id_of_duid(DUID), blake("duid:" + DUID), id="DUID"),
        pytest.param(id_of_ifa(IFA), blake("ifa:" + IFA.lower()), id="device id"),
        pytest.param(id_of_eid("ID5-Sync.com", "aB:c"), blake("eid:id5-sync.com:aB:c"), id="eid"),
    ],
)
def test_id_of_any_other_kind_is_a_hash_that_names_the_kind(id_: Id, expected: bytes) -> None:
    assert id_ == expected


@given(texts)
def test_duid_is_opaque(text: str) -> None:
    assert id_of_duid(text) == blake("duid:" + text)


@given(uuids)
def test_case_of_a_device_id_does_not_matter(uuid: UUID) -> None:
    assert id_of_ifa(str(uuid).upper()) == id_of_ifa(str(uuid))


@given(sources, texts, sources, texts)
def test_eids_of_different_people_have_different_ids(
    source: str, uid: str, other_source: str, other_uid: str
) -> None:
    """
    Nor can one source make up the id of another by moving the colon.
    """
    is_same = (source.lower(), uid) == (other_source.lower(), other_uid)

    assert (id_of_eid(source, uid) == id_of_eid(other_source, other_uid)) == is_same


def test_hash_of_a_phone_is_not_the_id_of_an_email() -> None:
    assert id_of_phone_hash(SHA256) != id_of_email_hash(SHA256)


UNUSABLE = [
    pytest.param(id_of_email_hash, "planted" * 3, id="e-mail hash of no known length"),
    pytest.param(id_of_email_hash, "g" * 32, id="e-mail hash that is not hex"),
    pytest.param(id_of_email_hash, MD5[:-1] + "\n", id="e-mail hash with its line end"),
    pytest.param(id_of_email_hash, "٣" * 32, id="e-mail hash in digits of another script"),
    pytest.param(id_of_phone_hash, SHA1, id="phone hash that is not SHA-256"),
    pytest.param(id_of_phone_hash, "x" * 64, id="phone hash that is not hex"),
    pytest.param(id_of_duid, "", id="empty DUID"),
    pytest.param(id_of_duid, "d" * (MAX_TEXT_CHARS + 1), id="DUID too long"),
    pytest.param(id_of_duid, "planted\ud800", id="DUID with a lone surrogate"),
    pytest.param(id_of_ifa, "planted", id="device id that is not a UUID"),
    pytest.param(id_of_ifa, "{" + IFA + "}", id="device id in braces"),
    pytest.param(id_of_ifa, "00000000-0000-0000-0000-000000000000", id="device id of zeros"),
    pytest.param(lambda uid: id_of_eid("", uid), "planted", id="eid without source"),
    pytest.param(lambda uid: id_of_eid("a.com:b", uid), "planted", id="eid source with a colon"),
    pytest.param(lambda uid: id_of_eid("a.com", uid), "", id="eid without uid"),
    pytest.param(lambda uid: id_of_eid("a.com", uid), "u" * 257, id="uid too long"),
    pytest.param(parse_id, "planted", id="typed: nothing known"),
    pytest.param(parse_id, "planted:" + MD5, id="typed: unknown prefix"),
    pytest.param(parse_id, "email:planted", id="typed: no e-mail hash behind its prefix"),
    pytest.param(parse_id, "eid:planted", id="typed: eid without uid"),
]


@pytest.mark.parametrize(("make", "text"), UNUSABLE)
def test_text_that_is_no_id_is_refused_and_not_quoted(make: type, text: str) -> None:
    """
    Ids never reach a log, not even by way of an exception or its context.
    """
    with pytest.raises(UnusableId) as caught:
        make(text)

    assert caught.value.__context__ is None
    assert not text or text not in str(caught.value)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            MD5, (IdentifierKind.EMAIL, id_of_email_hash(MD5)), id="a bare hash is of an e-mail"
        ),
        pytest.param(IFA, (IdentifierKind.IFA, id_of_ifa(IFA)), id="a bare UUID is a device"),
        pytest.param("EMAIL:" + SHA1, (IdentifierKind.EMAIL, id_of_email_hash(SHA1)), id="email"),
        pytest.param(
            "phone:" + SHA256, (IdentifierKind.PHONE, id_of_phone_hash(SHA256)), id="phone"
        ),
        pytest.param("duid:" + DUID, (IdentifierKind.DUID, id_of_duid(DUID)), id="duid"),
        pytest.param("duid:a:b", (IdentifierKind.DUID, id_of_duid("a:b")), id="duid with a colon"),
        pytest.param("ifa:" + IFA, (IdentifierKind.IFA, id_of_ifa(IFA)), id="ifa"),
        pytest.param("eid:a.com:x:y", (IdentifierKind.EID, id_of_eid("a.com", "x:y")), id="eid"),
    ],
)
def test_typed_id_is_read_by_its_prefix_or_its_form(
    text: str, expected: tuple[IdentifierKind, Id]
) -> None:
    assert parse_id(text) == expected


@given(st.text(max_size=80))
def test_any_typed_text_is_an_id_or_refused(text: str) -> None:
    try:
        _, id_ = parse_id(text)
    except UnusableId:
        return
    assert len(id_) == ID_BYTES
