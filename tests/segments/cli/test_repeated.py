"""What takes from what bids show is said again after exit status 3, until it is in force."""

import asyncio
import json

import pytest

from segments.store.reader import read_catalog
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.refusals import REFUSALS
from tests.segments.cli.conftest import Command

FORBIDDING = [
    ("audience", "delete", "1", "--partner", "shop", "--yes"),
    ("audience", "deactivate", "1", "--partner", "shop"),
    ("audience", "window", "1", "--partner", "shop", "--until", "2020-01-01"),
    ("account", "deactivate", "shop"),
    ("account", "relate", "paper", "shop"),
    ("recipient", "revoke", "dsp-a", "shop"),
    ("recipient", "deactivate", "dsp-a"),
    ("recipient", "hold-out", "dsp-a", "0.5"),
    ("recipient", "token", "revoke", "dsp-a", "1"),
    ("recipient", "token", "need", "dsp-a"),
    ("recipient", "certificate", "dsp-a", "--san", "dns:bidder.example"),
]


@pytest.fixture
def begun(ok: Command, store: Engine) -> Command:
    """Run a command where there is one of everything."""
    ok("account", "add", "--kind", "publisher", "--id", "paper", "--name", "Paper")
    ok("account", "add", "--kind", "advertiser", "--id", "shop", "--name", "Shop")
    ok("recipient", "add", "dsp-a", "--partner", "shop")
    ok("audience", "add", "1", "--partner", "shop", "--name", "Shoes")
    ok("recipient", "token", "issue", "dsp-a", "--not-needed-yet")
    return ok


def trail(ok: Command) -> list[dict[str, object]]:
    return [json.loads(line) for line in ok("audit", "export").stdout.splitlines()]


def version_of(store: Engine) -> int:
    async def read() -> int:
        async with connect(store.url) as client:
            return (await read_catalog(client)).version

    return asyncio.run(read())


@pytest.mark.parametrize("command", FORBIDDING, ids=" ".join)
def test_command_that_could_only_be_recorded_is_said_again_until_it_is_in_force(
    begun: Command,
    run: Command,
    store: Engine,
    command: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEGMENTS_OPT_OUT_WAIT_S", "0.1")
    before = version_of(store)
    with REFUSALS["OOM"](store):
        first, second = run(*command), run(*command)
        assert version_of(store) == before
        recorded = trail(begun)

    monkeypatch.delenv("SEGMENTS_OPT_OUT_WAIT_S")  # now it is waited for
    third, fourth = run(*command), run(*command)

    assert [each.exit_code for each in (first, second, third, fourth)] == [3, 3, 0, 0]
    assert third.stdout == fourth.stdout
    assert third.stdout.strip() in first.stderr
    assert version_of(store) == before + 1, "it is done once"
    assert trail(begun) == recorded, "and told once"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("audience", "delete", "2", "--partner", "shop", "--yes"), "shop has no audience 2"),
        (("recipient", "revoke", "dsp-b", "shop"), "dsp-b has no grant of partner shop"),
    ],
)
def test_command_that_was_never_given_is_refused(
    begun: Command, run: Command, command: tuple[str, ...], said: str
) -> None:
    """A wrong name must not be taken for what was done before."""
    begun("recipient", "add", "dsp-b")

    result = run(*command)

    assert result.exit_code == 1
    assert said in result.stderr
