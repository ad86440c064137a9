"""A secret may come from a file, as Kubernetes and Docker mount it."""

from pathlib import Path

import pytest

from rtb.settings import RtbSettings
from segments.runtime.settings_errors import variables_of
from segments.runtime.settings_reader import WrongSettings, settings_of
from segments.settings import Settings

URL = "redis://:hunter2@store:6379/0"


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("cls", [Settings, RtbSettings])
def test_secret_is_read_from_the_file_that_is_named(
    cls: type[Settings] | type[RtbSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(f"{URL}\n")
    monkeypatch.setenv("SEGMENTS_REDIS_URL_FILE", str(tmp_path / "url"))

    assert settings_of(cls).redis_url == URL


def test_file_may_be_named_in_the_env_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(URL)
    (tmp_path / ".env").write_text("SEGMENTS_REDIS_URL_FILE=url\n")

    assert settings_of(Settings).redis_url == URL


@pytest.mark.parametrize(
    ("content", "other", "said"),
    [
        pytest.param(None, "", "cannot be read (FileNotFoundError)", id="a file that is missing"),
        pytest.param(URL, URL, "SEGMENTS_REDIS_URL is set, too", id="both"),
        pytest.param("http://:hunter2@x", "", "SEGMENTS_REDIS_URL_FILE: ", id="no URL of a store"),
    ],
)
def test_wrong_file_is_a_line_that_shows_no_secret(
    content: str | None,
    other: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if content is not None:
        (tmp_path / "url").write_text(content)
    monkeypatch.setenv("SEGMENTS_REDIS_URL_FILE", str(tmp_path / "url"))
    if other:
        monkeypatch.setenv("SEGMENTS_REDIS_URL", other)

    with pytest.raises(WrongSettings) as wrong:
        settings_of(Settings)

    assert said in str(wrong.value)
    assert "hunter2" not in str(wrong.value)


def test_each_url_with_a_password_may_come_from_a_file() -> None:
    names = {*variables_of(Settings), *variables_of(RtbSettings)}
    secrets = {f"{name}_FILE" for name in names if name.endswith(("REDIS_URL", "LEDGER_URL"))}

    assert {*secrets, "SEGMENTS_BLOB_URL_FILE"} <= names
