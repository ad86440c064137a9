"""
What `kubectl kustomize` makes of deploy/kubernetes: resources, one namespace, images.

A renderer of the little that our kustomizations use; where kubectl is installed, a test compares
both.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.docs.pages import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())

_KNOWN = {"apiVersion", "kind", "namespace", "resources", "images"}
_OF_NO_NAMESPACE = ("Namespace",)

Resource = dict[str, Any]


def rendered(overlay: str) -> list[Resource]:
    """Return an overlay's resources."""
    return list(_rendered(KUBERNETES / "overlays" / overlay))


def containers_of(resource: Resource) -> list[Resource]:
    """Return the containers of a workload."""
    spec = pod_of(resource)
    return [] if spec is None else spec["containers"]


def pod_of(resource: Resource) -> Resource | None:
    """Return the pod of a workload; `None` for any other resource."""
    template = resource.get("spec", {}).get("template")
    return None if template is None else template["spec"]


def _rendered(folder: Path) -> Iterator[Resource]:
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(said) <= _KNOWN, f"{folder}: the renderer does not know {set(said) - _KNOWN}"
    for name in said["resources"]:
        path = (folder / name).resolve()
        found = _rendered(path) if path.is_dir() else yaml.safe_load_all(path.read_text())
        for resource in found:
            if "namespace" in said and resource["kind"] not in _OF_NO_NAMESPACE:
                resource["metadata"]["namespace"] = said["namespace"]
            for container in containers_of(resource):
                for image in said.get("images", ()):
                    if container["image"] == image["name"]:
                        container["image"] = f"{image['newName']}:{image['newTag']}"
            yield resource
