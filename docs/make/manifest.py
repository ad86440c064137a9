"""
The labels by which a host of containers knows what our image is: lines of the Dockerfile.

By ARTF 1.0, "Agent Manifest" and "Manifest - Container.json" (github.com/IABTechLab/
agentic-real-time-framework), in the spelling of its reference agent's Dockerfile, whose `intents`
are plain names. The descriptor is the same JSON in base64.

The resources are the least that the image was measured to need: docs/hosts.md says how.
"""

import base64
import json
import re
import tomllib
from pathlib import Path
from typing import Any

_BEGIN = "# Labels, written by `make docs`: docs/make/manifest.py\n"
_END = "# End of labels\n"
_BLOCK = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)

_PORT = 8080
CPU, MEMORY = "500m", "256Mi"


def manifest(version: str) -> dict[str, Any]:
    """Return the manifest of a release."""

    def probe(path: str) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": _PORT}, "periodSeconds": 5}

    return {
        "name": "rtb-segments",
        "version": version,
        "description": "Puts segments of partners into bid requests",
        "vendor": "rtb-segments",
        "owner": "ops@example.com",
        "resources": {"cpu": CPU, "memory": MEMORY},
        "intents": ["ACTIVATE_SEGMENTS"],
        "dependencies": {},
        "health": {
            "livenessProbe": probe("/health/live"),
            "readinessProbe": probe("/health/ready"),
        },
        "security": {"runAsNonRoot": True, "dropCapabilities": ["ALL"]},
    }


def dockerfile(root: Path) -> str:
    """Return the Dockerfile with the labels of this release."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (root / "Dockerfile").read_text(encoding="utf-8")
    said = json.dumps(manifest(project["version"]))
    descriptor = base64.b64encode(said.encode()).decode()
    lines = (
        _BEGIN,
        f"LABEL agent-manifest='{said}'\n",
        f'LABEL com.iabtechlab.artf.descriptor="{descriptor}"\n',
        f'LABEL com.iabtechlab.artf.container-version="{project["version"]}"\n',
        f'LABEL org.opencontainers.image.version="{project["version"]}"\n',
        _END,
    )
    return _BLOCK.sub("".join(lines), text)
