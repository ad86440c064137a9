import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.ingest.external_audience.person import ABSENT, PersonReader
from segments.model.customer_columns import CONTROLS, IdentityColumn
from segments.model.identity import Id, id_of_eid, id_of_email_hash, id_of_ifa

ADDRESS = "Jane.Doe@Example.com"
SHA256 = hashlib.sha256(ADDRESS.lower().encode()).hexdigest()
IFA = "AEBE52E7-03EE-455A-B3C4-E57283966239"
BY_MAIL = (IdentityColumn("mail", "email"),)


class Person(NamedTuple):
    ids: list[Id]
    leaves: bool


def read(reader: PersonReader, values: Sequence[Any]) -> Person | None:
    """Read one row; return `None` if it has no usable id."""
    [person] = persons_of(reader, [values])
    return person


def persons_of(reader: PersonReader, rows: Sequence[Sequence[Any]]) -> list[Person | None]:
    persons = reader.read(list(zip(*rows, strict=True)))
    found = [
        Person([id_ for id_ in ids if id_ is not None], leaves)
        for ids, leaves in zip(zip(*persons.ids, strict=True), persons.leaves, strict=True)
    ]
    assert persons.with_id == sum(bool(person.ids) for person in found)
    return [person if person.ids else None for person in found]


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
        pytest.param("ECID", 12345.0, id_of_eid("ecid", "12345"), id="number among empty cells"),
        pytest.param("ECID", Decimal(12345), id_of_eid("ecid", "12345"), id="decimal"),
        pytest.param("ECID", Decimal("7.00"), id_of_eid("ecid", "7"), id="decimal with places"),
        pytest.param("ECID", Decimal("0.50"), id_of_eid("ecid", "0.5"), id="fraction"),
        pytest.param("ECID", Decimal(10**37), id_of_eid("ecid", "1" + "0" * 37), id="long decimal"),
        pytest.param("GAID", UUID(IFA), id_of_ifa(IFA), id="UUID"),
        pytest.param("email", ADDRESS.encode(), id_of_email_hash(SHA256), id="bytes of text"),
        pytest.param("email", bytes.fromhex(SHA256), id_of_email_hash(SHA256), id="raw digest"),
        pytest.param("ECID", date(2026, 1, 2), id_of_eid("ecid", "2026-01-02"), id="date"),
        pytest.param("CRM_ID", "a:B", id_of_eid("crm_id", "a:B"), id="any other"),
    ],
)
def test_value_of_a_namespace_becomes_the_id_that_a_bid_asks_for(
    namespace: str, value: Any, expected: Id
) -> None:
    reader = PersonReader((IdentityColumn("x", namespace),), ())

    assert read(reader, [value]) == Person([expected], leaves=False)


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
        ("ECID", 1e300),
        ("ECID", float("nan")),
        ("ECID", Decimal("Infinity")),
        ("ECID", True),
        ("ECID", ["x"]),
    ],
)
def test_row_without_a_usable_id_is_nobody(namespace: str, value: Any) -> None:
    assert read(PersonReader((IdentityColumn("x", namespace),), ()), [value]) is None


def test_every_id_of_a_row_is_taken_and_what_is_none_left_out() -> None:
    reader = PersonReader((*BY_MAIL, IdentityColumn("a", "IDFA"), IdentityColumn("b", "ECID")), ())

    person = read(reader, [ADDRESS, "nothing", "7"])

    assert reader.unusable == 1
    assert person == Person([id_of_email_hash(SHA256), id_of_eid("ecid", "7")], leaves=False)


@pytest.mark.parametrize(
    ("said", "leaves"),
    [("1", True), (1, True), (1.0, True), ("1.0", True), ("true", True), (True, True), ("Y", True),
     ("0", False), (0, False), ("", False), (None, False), ("no", False), (ABSENT, False),
     ("0.0", False), (" N ", False), ("F", False), ("NULL", False), (b"n", False), (b"1", True),
     (Decimal("0.00"), False), (Decimal(1), True), (0.0, False)],
)  # fmt: skip
def test_delete_column_says_who_leaves(said: Any, leaves: bool) -> None:
    reader = PersonReader(BY_MAIL, ("delete",))

    assert read(reader, [ADDRESS, said]) == Person([id_of_email_hash(SHA256)], leaves)
    assert not reader.unclear


@pytest.mark.parametrize(
    "said",
    ["x", "perhaps", "delete", "2026-11-29T10:00:00Z", "1764410000", 1764410000, 2, -1,
     float("nan"), b"\xff", date(2026, 11, 29), datetime(2026, 11, 29, tzinfo=UTC),
     Decimal("NaN"), ["0"], {"no": 1}],
)  # fmt: skip
def test_delete_that_is_no_plain_no_removes_and_is_counted(said: Any) -> None:
    """
    A signal that can't be read is a refusal: a time may be when the person left.
    """
    reader = PersonReader(BY_MAIL, ("delete",))

    assert read(reader, [ADDRESS, said]) == Person([id_of_email_hash(SHA256)], leaves=True)
    assert reader.unclear == {"delete": 1}


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

    assert read(reader, [ADDRESS, said]) == Person([id_of_email_hash(SHA256)], leaves)


@given(
    st.lists(st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.booleans()),
             min_size=4, max_size=4)
)  # fmt: skip
def test_no_row_is_an_exception(values: list[Any]) -> None:
    reader = PersonReader((*BY_MAIL, IdentityColumn("e", "ECID")), CONTROLS)

    person = read(reader, values)

    assert person is None or all(len(id_) == 16 for id_ in person.ids)


VALUES = st.one_of(
    st.sampled_from(
        [ABSENT, None, True, False, 1, 0, 1.0, "1", "true", "no", "0", "x", "", "y", b"n"]
    ),
    st.text(max_size=3),
    st.integers(-1, 2),
    st.floats(),
    st.just(["0"]),
)
IDS = st.sampled_from([ADDRESS, SHA256, "", None, "x", 7, ABSENT])


@given(st.lists(st.tuples(IDS, IDS, VALUES, VALUES), min_size=1, max_size=20))
def test_rows_together_are_what_each_is_alone(rows: list[tuple[Any, ...]]) -> None:
    """
    Equal values of different types (1, True, 1.0) have one place in a dict, but not one text.
    """
    identities = (*BY_MAIL, IdentityColumn("e", "ECID"))
    together = PersonReader(identities, CONTROLS)
    alone = PersonReader(identities, CONTROLS)

    assert persons_of(together, rows) == [read(alone, row) for row in rows]
    assert together.unusable == alone.unusable
    assert together.unclear == alone.unclear
