from segments.runtime.startups import Startups


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


def test_address_of_many_has_no_limit_of_its_own() -> None:
    startups: Startups[int] = Startups(10, 2)

    gone = [startups.begin(number, "proxy", is_shared=True) for number in range(12)]

    assert [each for some in gone for each in some] == [0, 1]
