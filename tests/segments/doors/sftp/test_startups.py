import pytest

from segments.doors.sftp.startups import Startups, source_of


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", True, id="one address"),
        pytest.param("192.0.2.1", "192.0.2.2", False, id="two addresses"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1", True, id="IPv4 in an IPv6 socket"),
        pytest.param("2001:db8::1", "2001:db8::2", True, id="one network of 64 bits"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="two networks"),
        pytest.param("fe80::1%eth0", "fe80::2", True, id="a zone"),
        pytest.param("", "192.0.2.1", False, id="no address"),
    ],
)
def test_source_is_an_address_or_a_network_of_64_bits(one: str, other: str, is_same: bool) -> None:
    assert (source_of(one) == source_of(other)) is is_same


def test_oldest_of_an_address_goes_for_a_newcomer_of_it() -> None:
    startups: Startups[str] = Startups(10, 2)

    gone = [startups.begin(name, "a") for name in ("first", "second", "third", "fourth")]

    assert gone == [[], [], ["first"], ["second"]]


def test_stranger_with_many_connections_takes_no_place_of_another_address() -> None:
    startups: Startups[str] = Startups(4, 4)
    partner = startups.begin("partner", "b")

    gone = [startups.begin(f"silent {n}", "a") for n in range(6)]

    assert partner == []
    assert [each for some in gone for each in some] == ["silent 0", "silent 1", "silent 2"]
    assert "partner" in startups


def test_connection_that_has_logged_in_counts_no_longer() -> None:
    startups: Startups[str] = Startups(1, 1)
    startups.begin("first", "a")
    startups.end("first")

    assert startups.begin("second", "a") == []
