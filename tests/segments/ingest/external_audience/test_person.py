import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.ingest.external_audience.person import ABSENT, Person, PersonReader
from segments.model.customer_columns import CONTROLS, IdentityColumn
from segments.model.identity import Id, id_of_eid, id_of_email_hash, id_of_ifa

ADDRESS = "Jane.Doe@Example.com"
SHA256 = hashlib.sha256(ADDRESS.lower().encode()).hexdigest()
IFA = "AEBE52E7-03EE-455A-B3C4-E57283966239"
BY_MAIL = (IdentityColumn("mail", "email"),)


@pytest.mark.parametrize(
    ("namespace", "value", "expected"),
    [
        pytest.param("email", ADDRESS, id_of_email_hash(SHA256), id="address"),
        pytest.param("Email", f"  {ADDRESS.upper()} ", id_of_email_hash(SHA256), id="any case"),
        pytest.param("email", SHA256.upper(), id_of_email_hash(SHA256), id="hash"),
        pytest.param("email", "a0" * 16, id_of_email_hash("a0" * 16), id="MD5"),
        pytest.param("Email_LC_SHA256", SHA256, id_of_email_hash(SHA256), id="hash alone"),
        pytest.param("IDFA", IFA, id_of_ifa(IFA), id="IDFA"),
        pytest.param("gaid", IFA.lower(), id_of_ifa(IFA), id="GAID"),
        pytest.param("ECID", 12345, id_of_eid("ecid", "12345"), id="number"),
        pytest.param("CRM_ID", "a:B", id_of_eid("crm_id", "a:B"), id="any other"),
    ],
)
def test_value_of_a_namespace_becomes_the_id_that_a_bid_asks_for(
    namespace: str, value: Any, expected: Id
) -> None:
    reader = PersonReader((IdentityColumn("x", namespace),), ())

    assert reader.read([value]) == Person([expected], leaves=False)


@pytest.mark.parametrize(
    ("namespace", "value"),
    [
        ("email", ""),
        ("email", None),
        ("email", "nobody"),
        ("email", hashlib.sha256(b"").hexdigest()),
        ("Email_LC_SHA256", "f" * 64),
        ("email", "x" * 400 + "@example.com"),
        ("email", "\udcff@example.com"),
        ("Email_LC_SHA256", ADDRESS),
        ("IDFA", "00000000-0000-0000-0000-000000000000"),
        ("ECID", 1.5),
        ("ECID", True),
        ("ECID", ["x"]),
    ],
)
def test_row_without_a_usable_id_is_nobody(namespace: str, value: Any) -> None:
    assert PersonReader((IdentityColumn("x", namespace),), ()).read([value]) is None


def test_every_id_of_a_row_is_taken_and_what_is_none_left_out() -> None:
    reader = PersonReader((*BY_MAIL, IdentityColumn("a", "IDFA"), IdentityColumn("b", "ECID")), ())

    person = reader.read([ADDRESS, "nothing", "7"])

    assert person == Person([id_of_email_hash(SHA256), id_of_eid("ecid", "7")], leaves=False)


@pytest.mark.parametrize(
    ("said", "leaves"),
    [("1", True), (1, True), (1.0, True), ("1.0", True), ("true", True), (True, True), ("Y", True),
     ("0", False), (0, False), ("", False), (None, False), ("no", False), (ABSENT, False),
     ("0.0", False)],
)  # fmt: skip
def test_delete_column_says_who_leaves(said: Any, leaves: bool) -> None:
    reader = PersonReader(BY_MAIL, ("delete",))

    assert reader.read([ADDRESS, said]) == Person([id_of_email_hash(SHA256)], leaves)


def test_delete_column_that_says_neither_is_a_bad_row() -> None:
    assert PersonReader(BY_MAIL, ("delete",)).read([ADDRESS, "perhaps"]) is None


@pytest.mark.parametrize(
    ("said", "leaves"),
    [("y", False), ("Yes", False), ("true", False), (True, False), ("1", False), ("in", False),
     ("n", True), ("", True), (None, True), ("p", True), ("perhaps", True), (False, True),
     ({"val": "y"}, True), (ABSENT, False)],
)  # fmt: skip
def test_consent_that_is_not_a_plain_yes_is_a_no(said: Any, leaves: bool) -> None:
    """
    A column that a JSON row does not have, and that was not declared, says nothing.
    """
    reader = PersonReader(BY_MAIL, ("process_consent",))

    assert reader.read([ADDRESS, said]) == Person([id_of_email_hash(SHA256)], leaves)


@given(
    st.lists(st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.booleans()),
             min_size=4, max_size=4)
)  # fmt: skip
def test_no_row_is_an_exception(values: list[Any]) -> None:
    reader = PersonReader((*BY_MAIL, IdentityColumn("e", "ECID")), CONTROLS)

    person = reader.read(values)

    assert person is None or all(len(id_) == 16 for id_ in person.ids)
