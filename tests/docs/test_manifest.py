"""The labels by which hosts of containers know the image say what the image does."""

import base64
import json
import re
import tomllib
from typing import Any

import pytest

from docs.make.__main__ import ROOT
from rtb.server.probes import LIVE, READY
from rtb.settings import RtbSettings
from segments.settings import Settings

_DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _label(name: str) -> str:
    """The value of a label, as Docker's parser takes it from its quotes."""
    found = re.search(rf"^LABEL {re.escape(name)}=(['\"])(.*)\1$", _DOCKERFILE, re.MULTILINE)
    assert found is not None
    return found[2]


def _manifest() -> Any:
    return json.loads(_label("agent-manifest"))


def test_manifest_has_what_the_specification_asks_for() -> None:
    """
    ARTF 1.0, "Agent Manifest": name, vendor, owner; intents; resources; dependencies.
    """
    manifest = _manifest()

    assert manifest["name"] == "rtb-segments"
    assert (
        manifest["version"]
        == _PROJECT["version"]
        == _label("com.iabtechlab.artf.container-version")
    )
    assert manifest["vendor"]
    assert "@" in manifest["owner"]
    assert manifest["intents"] == ["ACTIVATE_SEGMENTS"]
    assert manifest["dependencies"] == {}
    assert re.fullmatch(r"[0-9]+m", manifest["resources"]["cpu"])
    assert re.fullmatch(r"[0-9]+Mi", manifest["resources"]["memory"])
    assert manifest["security"] == {"runAsNonRoot": True, "dropCapabilities": ["ALL"]}


def test_descriptor_is_the_manifest() -> None:
    descriptor = base64.b64decode(_label("com.iabtechlab.artf.descriptor"), validate=True)

    assert descriptor.decode() == _label("agent-manifest")


def test_probes_of_the_manifest_are_answered_where_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in re.findall(r"([A-Z_]+)=(\S+)", _env_of_the_image()):
        monkeypatch.setenv(name, value)
    settings = RtbSettings()
    live, ready = (
        _manifest()["health"][probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")
    )

    assert settings.has_health_on_bid_port
    assert not settings.has_metrics_on_bid_port
    assert live["port"] == ready["port"] == settings.port
    assert live["path"] in LIVE
    assert ready["path"] in READY


def _env_of_the_image() -> str:
    run = _DOCKERFILE[_DOCKERFILE.index(" AS base\n") :].replace("\\\n", " ")
    return "\n".join(re.findall(r"^ENV (.*)$", run, re.MULTILINE))


def test_admin_ports_are_this_machines_alone_but_in_the_image() -> None:
    """In a container the probes come from outside."""
    hosts = [RtbSettings(_env_file=None).admin_host, Settings(_env_file=None).loader_host]

    assert hosts == ["127.0.0.1"] * 2
    assert "RTB_ADMIN_HOST=0.0.0.0 SEGMENTS_LOADER_HOST=0.0.0.0" in _DOCKERFILE
