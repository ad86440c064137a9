from pathlib import Path

import pytest

from segments.runtime.settings_reader import WrongSettings, read_settings, settings_of
from segments.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_environment")

_SECRET = "hunter2"


def test_environment_wins_over_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SEGMENTS_EXPECTED_IDS=5\nSEGMENTS_DATA_DIR=here\nOTHER=1\n")
    monkeypatch.setenv("SEGMENTS_EXPECTED_IDS", "6")

    settings = read_settings(Settings)

    assert (settings.expected_ids, settings.data_dir) == (6, Path("here"))


def test_variable_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTS_REDIS_URL", "")

    assert read_settings(Settings).embedded_store


def test_password_does_not_stand_in_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTS_REDIS_URL", f"redis://:{_SECRET}@store")

    settings = read_settings(Settings)

    assert settings.store_url == f"redis://:{_SECRET}@store"
    assert _SECRET not in repr(settings)


def test_everything_lies_in_the_data_directory_unless_told_otherwise(tmp_path: Path) -> None:
    settings = Settings(data_dir=Path("a b"))

    assert settings.store_url == f"unix://{tmp_path}/a%20b/store/valkey.sock"
    assert settings.ledger_dsn == f"sqlite+aiosqlite:///{tmp_path}/a b/ledger.db"


@pytest.mark.parametrize(
    ("networks", "reason"),
    [
        pytest.param('["0.0.0.0/0"]', "a network of all addresses", id="every address"),
        pytest.param('["::/0"]', "a network of all addresses", id="every IPv6 address"),
        pytest.param('["10.0.0.1/8"]', "not a valid", id="bits beyond the network"),
        pytest.param('["proxy.example"]', "not a valid", id="a name"),
    ],
)
def test_proxies_that_can_not_be_trusted_stop_the_process(
    monkeypatch: pytest.MonkeyPatch, networks: str, reason: str
) -> None:
    monkeypatch.setenv("SEGMENTS_TRUSTED_PROXIES", networks)

    with pytest.raises(WrongSettings, match=f"(?s)SEGMENTS_TRUSTED_PROXIES.*{reason}"):
        settings_of(Settings)
