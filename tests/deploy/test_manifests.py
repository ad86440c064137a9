"""The manifests and units are what Kubernetes and systemd take, and set only settings of ours."""

import re
import shutil
import subprocess
import tomllib
from typing import Any

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]

from segments.cli import main
from segments.runtime.setting_names import SETTING_NAMES
from tests.deploy.manifests import KUBERNETES, OVERLAYS, containers_of, pod_of, rendered
from tests.docs.pages import ROOT, text_of

_KUBERNETES_VERSION = "1.32"
_UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))

_START = re.compile(r"^ExecStart=/opt/rtb-segments/bin/rtb-segments (\w+)$", re.MULTILINE)

RESOURCES = [
    pytest.param(resource, id=f"{overlay}/{resource['kind']}/{resource['metadata']['name']}")
    for overlay in OVERLAYS
    for resource in rendered(overlay)
]
PODS = [
    pytest.param(pod, id=f"{overlay}/{resource['metadata']['name']}")
    for overlay in OVERLAYS
    for resource in rendered(overlay)
    if (pod := pod_of(resource)) is not None
]


@pytest.mark.parametrize("resource", RESOURCES)
def test_each_manifest_is_what_kubernetes_takes(resource: dict[str, Any]) -> None:
    kubernetes_validate.validate(resource, _KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="compares with kubectl's own")
def test_overlay_is_rendered_as_kubectl_does(overlay: str) -> None:
    folder = KUBERNETES / "overlays" / overlay
    said = subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True).stdout

    def by_name(resources: Any) -> list[Any]:
        return sorted(resources, key=lambda each: (each["kind"], each["metadata"]["name"]))

    assert by_name(rendered(overlay)) == by_name(yaml.safe_load_all(said))


@pytest.mark.parametrize("pod", PODS)
def test_each_pod_is_confined(pod: dict[str, Any]) -> None:
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("pod", PODS)
def test_each_variable_of_a_pod_is_a_setting_and_no_secret_is_among_them(
    pod: dict[str, Any],
) -> None:
    variables = {
        each["name"]: each["value"]
        for container in pod["containers"]
        for each in container.get("env", ())
    }

    assert set(variables) <= set(SETTING_NAMES)
    assert not [name for name in variables if name.endswith("_URL") and "REDIS" in name]
    mounts = {m["mountPath"] for c in pod["containers"] for m in c.get("volumeMounts", ())}
    files = [value for name, value in variables.items() if name.endswith("_URL_FILE")]
    assert all(value.rpartition("/")[0] in mounts for value in files)


@pytest.mark.parametrize("pod", PODS)
def test_each_container_of_ours_runs_a_command_and_each_probe_has_its_port(
    pod: dict[str, Any],
) -> None:
    commands = main.list_commands(None)  # type: ignore[arg-type]
    for container in pod["containers"]:
        ports = {port["name"] for port in container.get("ports", ())}
        probes = [value for name, value in container.items() if name.endswith("Probe")]
        used = {(p.get("httpGet") or p["tcpSocket"])["port"] for p in probes}
        assert used <= ports
        if "/rtb-segments:" in container["image"]:
            assert container["args"][0] in commands


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_policy_and_service_selects_pods_and_names_their_ports(overlay: str) -> None:
    resources = rendered(overlay)
    labels_to_ports = {
        tuple(sorted(each["spec"]["template"]["metadata"]["labels"].items())): {
            port["name"] for c in containers_of(each) for port in c.get("ports", ())
        }
        for each in resources
        if pod_of(each) is not None
    }
    for each in resources:
        if each["kind"] == "Service":
            ports = labels_to_ports[tuple(sorted(each["spec"]["selector"].items()))]
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports
        if each["kind"] == "NetworkPolicy":
            selected = each["spec"]["podSelector"]["matchLabels"]
            ports = labels_to_ports[tuple(sorted(selected.items()))]
            assert {
                port["port"] for rule in each["spec"]["ingress"] for port in rule["ports"]
            } <= ports


def test_pod_without_a_network_may_reach_nothing() -> None:
    [policy] = [each for each in rendered("hosted") if each["kind"] == "NetworkPolicy"]

    assert policy["spec"]["egress"] == []
    assert "Egress" in policy["spec"]["policyTypes"]


def test_manifests_run_this_release() -> None:
    version = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["version"]
    images = {
        container["image"]
        for overlay in OVERLAYS
        for resource in rendered(overlay)
        for container in containers_of(resource)
        if "/rtb-segments:" in container["image"]
    }

    assert images == {f"registry.example/rtb-segments:{version}"}


@pytest.mark.parametrize("unit", _UNITS, ids=lambda path: path.name)
def test_unit_runs_a_command_of_ours_with_settings_of_ours(unit: Any) -> None:
    said = unit.read_text()
    [command] = re.findall(
        r"^ExecStart=/opt/rtb-segments/bin/rtb-segments (\w+)(?: \$PUBLISH)?$", said, re.MULTILINE
    )

    assert command in main.list_commands(None)  # type: ignore[arg-type]
    assert set(re.findall(r"^Environment=(\w+)=", said, re.MULTILINE)) <= set(SETTING_NAMES)
    assert "RestartPreventExitStatus=2" in said  # a wrong setting does not get right by itself
