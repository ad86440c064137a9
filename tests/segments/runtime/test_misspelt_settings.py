"""A variable that is nearly a setting ends the process; another of its form is said."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtb.settings import RtbSettings
from segments.runtime.misspelt_settings import Unread, unread
from segments.runtime.operator_settings import OperatorSettings
from segments.runtime.settings_errors import variables_of
from segments.runtime.settings_reader import (
    WRONG_SETTINGS,
    WrongSettings,
    read_settings,
    settings_of,
)
from segments.settings import Settings

_PLANES: tuple[tuple[type[OperatorSettings], str], ...] = (
    (RtbSettings, "RTB_"),
    (Settings, "SEGMENTS_"),
)


@pytest.fixture(autouse=True)
def _no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _unread(cls: type[OperatorSettings], prefix: str, *names: str) -> list[Unread]:
    return list(unread(names, variables_of(cls), prefix))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RTB_GDPR_WHEN_UNSAYED", "RTB_GDPR_WHEN_UNSAID"),
        ("RTB_MAX_INFLIGHT", "RTB_MAX_IN_FLIGHT"),
        ("RTB_IN_FLIGHT_MAX", "RTB_MAX_IN_FLIGHT"),
        ("RTB_WORKER", "RTB_WORKERS"),
        ("SEGMENTS_REDIS_ULR", "SEGMENTS_REDIS_URL"),
    ],
)
def test_variable_that_is_nearly_a_setting_ends_the_process_and_both_are_named(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "secret")

    with pytest.raises(SystemExit) as ended:
        read_settings(RtbSettings)

    assert ended.value.code == WRONG_SETTINGS
    assert capsys.readouterr().err == f"{name}: no setting; {meant} may be meant\n"


def test_misspelt_line_of_the_file_counts_as_well(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SEGMENTS_REPORT_DAY=3\nEDITOR=vi\n")

    with pytest.raises(WrongSettings, match=r"^SEGMENTS_REPORT_DAY: no setting; .* may be meant$"):
        settings_of(Settings)


def test_variable_of_another_release_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RTB_QUANTUM_TELEPORTATION", "secret")
    monkeypatch.setenv("SEGMENTS_QUANTUM_TELEPORTATION", "secret")  # another plane's

    read_settings(RtbSettings)

    said = "RTB_QUANTUM_TELEPORTATION: set, and no setting of this release\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("cls", "prefix"), _PLANES)
def test_settings_of_both_planes_stand_side_by_side(
    cls: type[OperatorSettings], prefix: str
) -> None:
    """
    One environment serves all processes of `up`.
    """
    everything = [name for each, _ in _PLANES for name in variables_of(each)]

    assert _unread(cls, prefix, *everything, "PORTS", "PATH", "SEGMENT", "SERVER_HOST") == []


@given(st.data())
def test_three_letters_are_taken_for_a_slip(data: st.DataObject) -> None:
    ours = [name for name in variables_of(Settings) if name.startswith("SEGMENTS_")]
    name = data.draw(st.sampled_from(ours))
    letters = list(name)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(len("SEGMENTS_"), len(letters) - 1))
        letters[at : at + 1] = data.draw(st.sampled_from(["", "X", "_"]))
        if len(letters) <= len("SEGMENTS_"):
            return
    slip = "".join(letters)

    if slip not in variables_of(Settings):
        [found] = _unread(Settings, "SEGMENTS_", slip)
        assert found.meant is not None


def test_services_beside_a_container_are_no_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    So Kubernetes tells of Services that are called `rtb` and `segments-api`.
    """
    for service in ("RTB", "SEGMENTS_API"):
        monkeypatch.setenv(f"{service}_PORT", "tcp://10.0.0.1:8080")
        monkeypatch.setenv(f"{service}_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv(f"{service}_SERVICE_PORT", "8080")
        monkeypatch.setenv(f"{service}_SERVICE_PORT_HTTP", "8080")
        monkeypatch.setenv(f"{service}_PORT_8080_TCP", "tcp://10.0.0.1:8080")
        monkeypatch.setenv(f"{service}_PORT_8080_TCP_ADDR", "10.0.0.1")
        monkeypatch.setenv(f"{service}_PORT_8080_TCP_PROTO", "tcp")

    listener, control = read_settings(RtbSettings), read_settings(Settings)

    assert listener.port == 8080
    assert control == Settings.model_construct(**control.model_dump())
    assert capsys.readouterr().err == ""


def test_what_somebody_else_reads_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGMENTS_BLOB_KEY", "secret")

    assert read_settings(Settings, lambda _: ["SEGMENTS_BLOB_KEY"])

    assert capsys.readouterr().err == ""
