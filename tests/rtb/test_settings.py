import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from rtb.consent.decision import Policy
from rtb.consent.tcf import DISCLOSED_ALWAYS_DS, DISCLOSED_IF_PRESENT_DS, Vendor
from rtb.id_rules import DEFAULT_RULES, IdRule
from rtb.pipeline import Pipeline
from rtb.server.settings_handoff import SettingsHandoff
from rtb.settings import RtbSettings
from segments.model.identity import IdentifierKind
from segments.runtime.settings_reader import read_settings
from tests.rtb.consent.strings import TCF_23_SINCE_DS


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no `.env` of whoever runs the tests."""
    for name in os.environ:
        if name.startswith(("RTB_", "SEGMENTS_")) or name in ("PORT", "SERVER_PORT"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_nothing_is_remembered_of_bids_unless_the_operator_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_default = RtbSettings().remember_seen
    monkeypatch.setenv("RTB_REMEMBER_SEEN", "true")

    assert (by_default, RtbSettings().remember_seen) == (False, True)


def test_worker_is_handed_the_settings_as_they_were_read_whatever_is_set_by_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RTB_ID_RULES", '[{"kind": "eid", "source": "x.example"}]')
    monkeypatch.setenv("RTB_STRIP_PATHS", "user.a, user.b")
    monkeypatch.setenv("SEGMENTS_REDIS_URL", "redis://:secret@x.example")
    monkeypatch.setenv("PORT", "7")
    settings = RtbSettings()
    handed = SettingsHandoff(settings)
    monkeypatch.setenv("PORT", "8")
    monkeypatch.setenv("RTB_ID_RULES", "no JSON")
    (tmp_path / ".env").write_text("RTB_MAX_IDS=many\n")

    twice = [SettingsHandoff.read(handed.fd).model_dump() for _ in range(2)]

    assert twice == [settings.model_dump()] * 2


def test_defaults_make_a_pipeline() -> None:
    options = RtbSettings().pipeline_options

    Pipeline(options)
    assert options.id_rules == DEFAULT_RULES
    assert options.strip_paths == ("user.ext.hashes",)
    assert options.consent == Policy(
        lmt_refuses=True,
        dnt_refuses=False,
        us_privacy_malformed_refuses=True,
        gdpr_when_unsaid=False,
        vendor=Vendor.of(148, (1, 3, 4), TCF_23_SINCE_DS),
        gpp_without_sid_refuses=True,
        gpp_personal_data_2_permits=False,
    )


@pytest.mark.parametrize(
    ("text", "since_ds"),
    [
        pytest.param("present", DISCLOSED_IF_PRESENT_DS, id="present"),
        pytest.param("always", DISCLOSED_ALWAYS_DS, id="always"),
        pytest.param("2026-03-01", TCF_23_SINCE_DS, id="a day"),
    ],
)
def test_disclosed_vendors_are_required_as_the_operator_says(
    monkeypatch: pytest.MonkeyPatch, text: str, since_ds: int
) -> None:
    monkeypatch.setenv("RTB_TCF_DISCLOSED_VENDORS", text)
    settings = RtbSettings()
    handed = SettingsHandoff(settings)

    assert settings.pipeline_options.consent.vendor.disclosed_from_ds == since_ds
    assert SettingsHandoff.read(handed.fd).model_dump() == settings.model_dump()


@pytest.mark.parametrize("text", ["never", "20260301", "2026-3-1", "2026-13-01", "1772323200"])
def test_day_that_is_none_stops_the_process(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("RTB_TCF_DISCLOSED_VENDORS", text)

    with pytest.raises(ValidationError):
        RtbSettings()


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        pytest.param({}, 8080, id="nothing set"),
        pytest.param({"SERVER_PORT": "3"}, 3, id="SERVER_PORT"),
        pytest.param({"SERVER_PORT": "3", "PORT": "2"}, 2, id="PORT over SERVER_PORT"),
        pytest.param({"PORT": "2", "RTB_PORT": "1"}, 1, id="RTB_PORT over all"),
        pytest.param({"RTB_PORT": "", "PORT": "2"}, 2, id="set to nothing is not set"),
    ],
)
def test_port_is_found_where_hosts_set_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], port: int
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert RtbSettings().port == port


def test_strip_paths_are_typed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTB_STRIP_PATHS", "user.ext.hashes, user.ext.hem,")

    assert RtbSettings().strip_paths == ("user.ext.hashes", "user.ext.hem")


def test_purposes_are_typed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTB_TCF_VENDOR_ID", "755")
    monkeypatch.setenv("RTB_TCF_PURPOSES", "2, 7,9")

    assert RtbSettings().pipeline_options.consent.vendor == Vendor.of(
        755, (2, 7, 9), TCF_23_SINCE_DS
    )


def test_id_rules_are_typed_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "RTB_ID_RULES",
        '[{"kind":"eid","path":"user.buyeruid","source":"buyeruid"},'
        '{"kind":"email","stype":["hemsha256"]}]',
    )

    assert RtbSettings().id_rules == (
        IdRule(IdentifierKind.EID, path="user.buyeruid", source="buyeruid"),
        IdRule(IdentifierKind.EMAIL, stype=("hemsha256",)),
    )


def test_store_is_the_control_planes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGMENTS_DATA_DIR", str(tmp_path / "d"))
    assert RtbSettings().store_url == f"unix://{tmp_path}/d/store/valkey.sock"

    monkeypatch.setenv("SEGMENTS_REDIS_URL", "rediss://redis.example:6380/0")
    assert RtbSettings().store_url == "rediss://redis.example:6380/0"


def test_password_of_the_store_is_not_in_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTS_REDIS_URL", "redis://:planted@redis.example")

    assert "planted" not in repr(RtbSettings())


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        RtbSettings().port = 1  # type: ignore[misc] # that it can't be is the point


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        pytest.param("PORT", "x", "PORT=x: not a whole number", id="port"),
        pytest.param("RTB_TMAX_SHARE", "2", "RTB_TMAX_SHARE=2: must be at most 1", id="share"),
        pytest.param("RTB_ID_RULES", "x", "RTB_ID_RULES: not JSON", id="rules not JSON"),
        pytest.param(
            "RTB_ID_RULES",
            '[{"kind":"eid","source":"uidapi.com"}]',
            "RTB_ID_RULES, 0: uidapi.com ids are encrypted tokens, never a lookup key",
            id="a rule that may not be",
        ),
        pytest.param(
            "RTB_ID_RULES",
            '[{"kind":"email","path":"user.consent"}]',
            "RTB_ID_RULES: user.consent is a signal or eids, not an identifier",
            id="a path to a signal",
        ),
        pytest.param(
            "RTB_ID_RULES",
            '[{"kind":"email","pat":"user.x"}]',
            "RTB_ID_RULES, 0, pat: not known here",
            id="a misspelt name",
        ),
        pytest.param(
            "RTB_STRIP_PATHS",
            "user..x",
            "RTB_STRIP_PATHS=user..x: a path is names with dots between them",
            id="a path with a hole",
        ),
        pytest.param(
            "RTB_TCF_VENDOR_ID", "0", "RTB_TCF_VENDOR_ID=0: must be at least 1", id="no vendor"
        ),
        pytest.param(
            "RTB_TCF_PURPOSES",
            "1,25",
            "RTB_TCF_PURPOSES=1,25: purposes are numbers from 1 to 24, at least one",
            id="a purpose that is none",
        ),
        pytest.param(
            "RTB_TCF_PURPOSES",
            ",",
            "RTB_TCF_PURPOSES=,: purposes are numbers from 1 to 24, at least one",
            id="no purpose",
        ),
        pytest.param(
            "RTB_TCF_PURPOSES",
            "1,x",
            "RTB_TCF_PURPOSES, 1: not a whole number",
            id="a purpose that is no number",
        ),
        pytest.param(
            "SEGMENTS_REDIS_URL",
            "http://:secret@x.example",
            "SEGMENTS_REDIS_URL: not a URL that begins with redis://, rediss://, unix://,"
            " redis+cluster:// or redis+sentinel://",
            id="a URL of no store",
        ),
    ],
)
def test_wrong_setting_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    line: str,
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as caught:
        read_settings(RtbSettings)

    assert caught.value.code == 2
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_near_cache_of_a_cluster_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    monkeypatch.setenv("RTB_CACHE_BYTES", "1000000")
    monkeypatch.setenv("SEGMENTS_REDIS_URL", f"{scheme}+cluster://:secret@127.0.0.1:7000")

    with pytest.raises(SystemExit) as caught:
        read_settings(RtbSettings)

    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "RTB_CACHE_BYTES: nothing is cached of a Redis Cluster; leave it 0\n"
    )


@pytest.mark.parametrize("url", ["redis://127.0.0.1", "redis+sentinel://127.0.0.1/main"])
def test_near_cache_of_one_server_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("RTB_CACHE_BYTES", "1000000")
    monkeypatch.setenv("SEGMENTS_REDIS_URL", url)

    room = RtbSettings().room

    assert room is not None
    assert room.max_bytes == 1_000_000


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_store_without_a_port_number_is_refused_in_one_line_that_does_not_quote_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    monkeypatch.setenv("SEGMENTS_REDIS_URL", f"{scheme}://:secret@127.0.0.1:port")

    with pytest.raises(SystemExit) as caught:
        read_settings(RtbSettings)

    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert said.startswith("SEGMENTS_REDIS_URL ")
    assert said.count("\n") == 1
    assert "secret" not in said
