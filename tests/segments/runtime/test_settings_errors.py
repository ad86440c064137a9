"""What is wrong with a setting is one line, by the name that the operator typed."""

from pathlib import Path

import pytest
from pydantic import AliasChoices, Field
from pydantic_settings import SettingsConfigDict

from segments.runtime.operator_settings import OperatorSettings
from segments.runtime.settings_reader import WRONG_SETTINGS, read_settings
from segments.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_environment")

_SECRET = "hunter2"
_NO_LEDGER = "not of the form sqlite+aiosqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"


class Listener(OperatorSettings):
    """Has a field of every sort that a plane's settings have."""

    model_config = SettingsConfigDict(env_prefix="RTB_", env_file=".env", extra="ignore")

    port: int = Field(8080, validation_alias=AliasChoices("RTB_PORT", "PORT"))
    tmax_share: float = Field(0.1, gt=0, le=1)
    allow_unnamed_recipient: bool = True
    rules: tuple[int, ...] = ()
    gdpr_when_unsaid: bool


@pytest.fixture(autouse=True)
def said_of_gdpr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTB_GDPR_WHEN_UNSAID", "true")


def lines_of(cls: type[OperatorSettings], capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as ended:
        read_settings(cls)
    assert ended.value.code == WRONG_SETTINGS
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("cls", "variable", "expected"),
    [
        pytest.param(
            Settings,
            "SEGMENTS_EXPECTED_IDS=abc",
            "SEGMENTS_EXPECTED_IDS=abc: not a whole number",
            id="not a number",
        ),
        pytest.param(
            Settings,
            "SEGMENTS_EXPECTED_IDS=0",
            "SEGMENTS_EXPECTED_IDS=0: must be at least 1",
            id="out of range",
        ),
        pytest.param(
            Settings,
            f"SEGMENTS_REDIS_URL=http://:{_SECRET}@store",
            "SEGMENTS_REDIS_URL: not a URL that begins with redis://, rediss://, unix://,"
            " redis+cluster:// or redis+sentinel://",
            id="a store of another scheme, whose password is not quoted",
        ),
        pytest.param(
            Settings,
            "SEGMENTS_REDIS_URL=redis://[::1",
            "SEGMENTS_REDIS_URL: not a URL that begins with redis://, rediss://, unix://,"
            " redis+cluster:// or redis+sentinel://",
            id="a URL that is none",
        ),
        pytest.param(
            Settings,
            f"SEGMENTS_LEDGER_URL=mysql://u:{_SECRET}@db/x",
            f"SEGMENTS_LEDGER_URL: {_NO_LEDGER}",
            id="a ledger that is not supported, whose password is not quoted",
        ),
        pytest.param(
            Listener, "PORT=x", "PORT=x: not a whole number", id="by the name that was set"
        ),
        pytest.param(
            Listener,
            "RTB_TMAX_SHARE=1.5",
            "RTB_TMAX_SHARE=1.5: must be at most 1",
            id="a share above one",
        ),
        pytest.param(
            Listener,
            "RTB_TMAX_SHARE=0",
            "RTB_TMAX_SHARE=0: must be more than 0",
            id="a share of nothing",
        ),
        pytest.param(
            Listener,
            "RTB_ALLOW_UNNAMED_RECIPIENT=maybe",
            "RTB_ALLOW_UNNAMED_RECIPIENT=maybe: neither true nor false",
            id="neither yes nor no",
        ),
        pytest.param(Listener, "RTB_RULES=[1", "RTB_RULES: not JSON", id="broken JSON"),
        pytest.param(
            Listener,
            'RTB_RULES=[1, "x"]',
            "RTB_RULES, 1: not a whole number",
            id="a wrong place inside of JSON",
        ),
    ],
)
def test_wrong_setting_is_one_line_that_names_the_variable(
    cls: type[OperatorSettings],
    variable: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(*variable.split("=", 1))

    assert lines_of(cls, capsys) == [expected]


def test_every_wrong_setting_has_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGMENTS_EXPECTED_IDS", "many")
    monkeypatch.setenv("SEGMENTS_REDIS_URL", "store")

    assert len(lines_of(Settings, capsys)) == 2


def test_missing_setting_without_default_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RTB_GDPR_WHEN_UNSAID")

    assert lines_of(Listener, capsys) == ["RTB_GDPR_WHEN_UNSAID: not set, and has no default"]


def test_env_file_that_is_no_text_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_bytes(b"SEGMENTS_DATA_DIR=\xff\n")

    assert lines_of(Settings, capsys) == [".env: cannot be read (UnicodeDecodeError)"]
