import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rtb.consent.decision import Policy
from rtb.consent.tcf import DISCLOSED_ALWAYS_DS, DISCLOSED_IF_PRESENT_DS, Vendor
from rtb.id_rules import DEFAULT_RULES, IdRule
from rtb.pipeline import Pipeline
from rtb.server.settings_handoff import SettingsHandoff
from rtb.settings import RtbSettings
from segments.model.identity import IdentifierKind
from segments.runtime.settings_reader import WrongSettings, read_settings, settings_of
from tests.rtb.consent.strings import TCF_23_SINCE_DS


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no `.env` of whoever runs the tests."""
    for name in os.environ:
        if name.startswith(("RTB_", "SEGMENTS_")) or name in ("PORT", "SERVER_PORT", "GRPC_PORT"):
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
        gpp_every_section=False,
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


@pytest.mark.parametrize(
    ("variables", "has_both"),
    [
        pytest.param({}, False, id="nothing set"),
        pytest.param({"PORT": "2"}, True, id="PORT gave it"),
        pytest.param({"SERVER_PORT": "3"}, True, id="SERVER_PORT gave it"),
        pytest.param({"PORT": "2", "RTB_PORT": "1"}, False, id="the host's is another"),
        pytest.param({"PORT": "2", "RTB_PORT": "2"}, True, id="the host's is the same"),
        pytest.param({"SERVER_PORT": "tcp://10.0.0.1:80"}, False, id="Kubernetes' of a Service"),
        pytest.param({"PORT": "2", "RTB_HEALTH_ON_BID_PORT": "false"}, False, id="switched off"),
        pytest.param({"RTB_HEALTH_ON_BID_PORT": "true"}, True, id="switched on"),
    ],
)
def test_health_is_on_the_port_that_a_host_gave(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], has_both: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    handed = SettingsHandoff(RtbSettings())
    settings = SettingsHandoff.read(handed.fd)

    assert settings.has_health_on_bid_port == has_both
    assert settings.has_metrics_on_bid_port == has_both


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        pytest.param({}, None, id="nothing set"),
        pytest.param({"GRPC_PORT": "9090"}, 9090, id="a host's"),
        pytest.param({"GRPC_PORT": "9090", "RTB_GRPC_PORT": "1"}, 1, id="ours over a host's"),
        pytest.param({"RTB_GRPC_PORT": "", "GRPC_PORT": "9090"}, 9090, id="set to nothing"),
        pytest.param({"GRPC_PORT": "tcp://10.0.0.1:80"}, None, id="Kubernetes' of a Service"),
    ],
)
def test_port_of_grpc_is_found_where_hosts_set_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], port: int | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert RtbSettings().grpc_port == port


def test_health_alone_is_on_the_port_of_bids_where_one_of_grpc_is_open() -> None:
    beside = RtbSettings(grpc_port=50051)
    never = RtbSettings(grpc_port=50051, health_on_bid_port=False)

    assert (beside.has_health_on_bid_port, beside.has_metrics_on_bid_port) == (True, False)
    assert (never.has_health_on_bid_port, never.has_metrics_on_bid_port) == (False, False)


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
        RtbSettings().host = "::1"  # type: ignore[misc] # that it can't be is the point


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


_TARGETING = {
    "RTB_TARGETING": "true",
    "RTB_TARGETING_RECIPIENTS": "dsp-a, dsp-b",
    "RTB_TARGETING_GDPR_WHEN_UNSAID": "false",
    "RTB_TARGETING_PREFIXES": '{"c": "LiveIntent.com"}',
}


def test_what_else_is_answered_has_options_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _TARGETING.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RTB_CURATION_GDPR_WHEN_UNSAID", "true")
    monkeypatch.setenv("RTB_GPP_WITHOUT_SID", "none")
    settings = RtbSettings()
    targeting, curation = settings.targeting_options, settings.curation_options

    assert targeting is not None
    assert curation is not None
    assert settings.targeting_recipients == ("dsp-a", "dsp-b")
    assert targeting.consent.gpp_without_sid_refuses
    assert targeting.consent.gpp_every_section
    assert (targeting.consent.gdpr_when_unsaid, curation.consent.gdpr_when_unsaid) == (False, True)
    assert not settings.pipeline_options.consent.gdpr_when_unsaid


def test_nothing_else_is_answered_by_default() -> None:
    settings = RtbSettings()

    assert (settings.targeting_options, settings.curation_options) == (None, None)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        pytest.param(
            "RTB_TARGETING_GDPR_WHEN_UNSAID", "", "RTB_TARGETING_GDPR_WHEN_UNSAID", id="undecided"
        ),
        pytest.param("RTB_TARGETING_RECIPIENTS", "", "RTB_TARGETING_RECIPIENTS", id="for nobody"),
        pytest.param(
            "RTB_TARGETING_PREFIXES", '{"c": "pubcid.org"}', "RTB_ID_RULES", id="a source unread"
        ),
        pytest.param("RTB_TARGETING_PREFIXES", '{"e": "liveintent.com"}', "c1 to c19", id="not c"),
        pytest.param(
            "RTB_TARGETING_PREFIXES", '{"c": "uidapi.com"}', "encrypted tokens", id="encrypted"
        ),
    ],
)
def test_targeting_that_cannot_be_right_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    for each, right in _TARGETING.items():
        monkeypatch.setenv(each, value if each == name else right)

    with pytest.raises(ValidationError, match=said):
        RtbSettings()


@pytest.mark.parametrize(
    ("text", "recipient"),
    [
        ("dsp-a", "dsp-a"),
        ("123", "123"),
        ('{"ssp.example": "dsp-a", "7": "dsp-b"}', {"ssp.example": "dsp-a", "7": "dsp-b"}),
    ],
)
def test_caller_by_artf_is_a_name_or_a_map_of_originators(
    text: str, recipient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTB_ARTF_RECIPIENT", text)
    settings = RtbSettings()

    assert settings.artf_recipient == recipient
    assert SettingsHandoff.read(SettingsHandoff(settings).fd).artf_recipient == recipient


@pytest.mark.parametrize("text", ['{"ssp": ', '{"ssp": 1}', '{"ssp": ["dsp-a"]}'])
def test_map_of_originators_that_is_none_is_refused_by_its_name(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RTB_ARTF_RECIPIENT", text)

    with pytest.raises(SystemExit):
        read_settings(RtbSettings)

    assert "RTB_ARTF_RECIPIENT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [("ID", "partner"), ("IDS_PER_MUTATION", "2"), ("TMAX_SHARE", "0"), ("TMAX_SHARE", "1.1")],
)
def test_form_of_mutations_that_nobody_has_is_refused(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"RTB_ARTF_{name}", text)

    with pytest.raises(SystemExit):
        read_settings(RtbSettings)

    assert f"RTB_ARTF_{name}" in capsys.readouterr().err


def test_pod_follows_nothing_that_anybody_may_have_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTB_FOLLOW", "file:///mnt/seg")

    with pytest.raises(WrongSettings, match=r"RTB_FOLLOW_KEYS.*key publish"):
        settings_of(RtbSettings)
    monkeypatch.setenv("RTB_FOLLOW_KEYS", "one, other")
    assert settings_of(RtbSettings).follow_keys == ("one", "other")


def test_pod_that_follows_has_no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTB_FOLLOW", "file:///mnt/seg")
    monkeypatch.setenv("RTB_FOLLOW_KEYS", "key")
    monkeypatch.setenv("SEGMENTS_REDIS_URL", "redis://elsewhere")

    with pytest.raises(WrongSettings, match="SEGMENTS_REDIS_URL"):
        settings_of(RtbSettings)


def test_age_of_data_is_told_only_where_they_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTB_DATA_AGE_HEADER", "1")
    with pytest.raises(WrongSettings, match=r"RTB_DATA_AGE_HEADER.*set RTB_FOLLOW"):
        settings_of(RtbSettings)

    monkeypatch.setenv("RTB_FOLLOW", "file:///mnt/seg")
    monkeypatch.setenv("RTB_FOLLOW_KEYS", "key")
    assert settings_of(RtbSettings).data_age_header
