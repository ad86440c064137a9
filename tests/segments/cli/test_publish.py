"""`key publish` and `publish`, as people use them."""

from pathlib import Path

import pytest

from segments.store.published.latest import Keys
from tests.segments.cli.conftest import Command


def test_key_is_made_once_and_its_public_half_is_shown(ok: Command, run: Command) -> None:
    made = ok("key", "publish", "key.pem").stdout.strip()

    Keys.of([made])
    assert Path("key.pem").stat().st_mode & 0o777 == 0o600
    assert ok("key", "publish", "--show", "key.pem").stdout.strip() == made
    again = run("key", "publish", "key.pem")
    assert (again.exit_code, "already" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "file:///x"), "--everything"),
        (("--to", "file:///x", "--everything", "--recipient", "a"), "--everything"),
        (("--to", "file:///x", "--everything"), "SEGMENTS_PUBLISH_KEY_FILE is not set"),
    ],
)
def test_what_can_not_be_published_is_said(
    run: Command, arguments: tuple[str, ...], said: str
) -> None:
    result = run("publish", *arguments)

    assert result.exit_code != 0
    assert said in result.stderr


def test_place_and_recipient_that_are_not_there_are_named(
    ok: Command, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok("key", "publish", "key.pem")
    monkeypatch.setenv("SEGMENTS_PUBLISH_KEY_FILE", "key.pem")

    nowhere = run("publish", "--to", "nowhere", "--everything")
    nobody = run("publish", "--to", f"file://{Path.cwd()}/out", "--recipient", "nobody")

    assert (nowhere.exit_code, "not a URL" in nowhere.stderr) == (1, True)
    assert (nobody.exit_code, "no recipient nobody" in nobody.stderr) == (1, True)
