"""
Builds our image and runs it, by Debian's own tools and without a daemon.

A tree of Debian's packages stands in for the image that the Dockerfile starts from: no registry of
images is asked. Everything is made below one folder, in which a second run finds the base again.
"""

import ctypes
import json
import os
import shlex
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]

_CA = "/etc/ssl/certs/ca-certificates.crt"
_SUITE = "trixie"
_BASE_PACKAGES = ("python3", "python3-venv", "python3-dev", "python-is-python3", "ca-certificates")
_BASE = "docker.io/library/stand-in:latest"
# Hybrid control groups, which crun refuses; hidden in a mount namespace of its own.
_HYBRID = Path("/sys/fs/cgroup/unified")

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


class Done(NamedTuple):
    """A finished command."""

    status: int
    said: str


class Engine:
    """
    Debian's podman and buildah, over images of their own.

    Args:
        folder: Where the images lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        driver = _driver(folder)
        self._store = ["--storage-driver", driver, "--root", f"{folder}/{driver}"]
        self._store += ["--runroot", f"{folder}/run-{driver}"]

    def make_base(self) -> str:
        """Make the image that stands in for Python's, and return its name."""
        tree = self._folder / "base.tar"
        if not tree.exists():
            half = tree.with_suffix(".half.tar")
            packages = ",".join(_BASE_PACKAGES)
            _run("mmdebstrap", "--variant=minbase", "--mode=root", f"--include={packages}",
                 _SUITE, str(half))  # fmt: skip
            half.rename(tree)
        # Imported anew it would be another image, and all layers over it would be built again.
        if not self._podman("images", "--quiet", _BASE).strip():
            self._podman("import", str(tree), _BASE)
        return _BASE

    def build(self, base: str, name: str, *options: str) -> str:
        """Build the Dockerfile as it is over another base, and return the image's name."""
        context = self._folder / "context"
        files = _run("git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others",
                     "--exclude-standard").split("\0")  # fmt: skip
        _run("rm", "-rf", str(context))
        for file in filter(None, files):
            if (ROOT / file).exists():
                (context / file).parent.mkdir(parents=True, exist_ok=True)
                (context / file).write_bytes((ROOT / file).read_bytes())
        _run(
            "buildah", *self._store, "bud", "--isolation", "chroot", "--format", "docker",
            "--pull-never", "--layers", "--build-arg", f"BASE={base}",
            # Where a machine reaches the packages through an authority of its own.
            "--volume", f"{_CA}:{_CA}:ro", "--env", f"PIP_CERT={_CA}",
            "--tag", name, *options, str(context),
        )  # fmt: skip
        return name

    def inspect(self, image: str) -> Any:
        """Return the description of an image."""
        [said] = json.loads(self._podman("image", "inspect", image))
        return said

    def start(
        self,
        image: str,
        data: Path,
        *command: str,
        user: str,
        environment: Mapping[str, str],
        files: Sequence[Path] = (),
    ) -> "Container":
        """Run an image in a network of its own, hardened as its users do."""
        pid_file = self._folder / "container.pid"
        pid_file.unlink(missing_ok=True)
        argv = [
            "podman", *self._store, "--cgroup-manager=cgroupfs", "run", "--rm", "--name", "ours",
            "--pidfile", str(pid_file),
            "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL",
            "--security-opt=no-new-privileges", "--network=none", "--cgroups=disabled",
            "--no-healthcheck", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=4096:4096",
            "--user", user, "--volume", f"{data}:/data",
            *(f"--volume={file}:/delivered/{file.name}:ro" for file in files),
            *(f"--env={name}={value}" for name, value in environment.items()),
            image, *command,
        ]  # fmt: skip
        return Container(argv, self._folder / "container.log", pid_file)

    def _podman(self, *arguments: str) -> str:
        return _run("podman", *self._store, *arguments)


class Container:
    """A running container."""

    def __init__(self, argv: Sequence[str], log: Path, pid_file: Path) -> None:
        self.log = log
        self._pid_file = pid_file
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                _hidden(argv), stdout=output, stderr=output, start_new_session=True
            )

    def pids(self) -> list[int]:
        """Return the container's processes, the first first; none before it runs our program."""
        try:
            first = int(self._pid_file.read_text())
            if Path(f"/proc/{first}/exe").readlink().name == "crun":
                return []
            ours = Path(f"/proc/{first}/ns/pid").readlink()
        except (OSError, ValueError):
            return []
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):
                    if (entry / "ns/pid").readlink() == ours:
                        found.append(int(entry.name))
        return sorted(found, key=lambda pid: (pid != first, pid))

    def run(self, *command: str) -> Done:
        """Run a command inside, as the user of the container."""
        first = self.pids()[0]
        status = Path(f"/proc/{first}/status").read_text()
        uid, gid = (status.partition(f"{word}:")[2].split()[0] for word in ("Uid", "Gid"))
        environment = dict(
            entry.partition("=")[::2]
            for entry in Path(f"/proc/{first}/environ").read_text().split("\0")
            if entry
        )
        done = subprocess.run(
            ["nsenter", "-t", str(first), "-m", "-p", "-r", "-w", "-S", uid, "-G", gid, *command],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout + done.stderr)

    def ask(self, request: urllib.request.Request) -> tuple[int, bytes]:
        """
        Send a request to the container's loopback address, and return the answer's status and body.

        Its ports are its own: what listens on this machine does not matter.

        Raises:
            OSError: There is no answer.
        """
        with ThreadPoolExecutor(1) as thread:  # a thread has its network for life
            return thread.submit(self._ask, request).result()

    def _ask(self, request: urllib.request.Request) -> tuple[int, bytes]:
        pids = self.pids()
        if not pids:
            raise ConnectionRefusedError("the container does not run")
        with Path(f"/proc/{pids[0]}/ns/net").open("rb") as network:
            if _LIBC.setns(network.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "the network can't be entered")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()

    def is_running(self) -> bool:
        """Whether the container runs."""
        return self._process.poll() is None

    def stop(self, within_s: float) -> int:
        """Send SIGTERM to the first process, as an engine does, and return the exit status."""
        os.kill(self.pids()[0], signal.SIGTERM)
        return self._process.wait(within_s)

    def kill(self) -> None:
        """End it at once, if it runs."""
        for pid in self.pids():
            with suppress(ProcessLookupError):  # it ended with the one before
                os.kill(pid, signal.SIGKILL)
        self._process.wait(30)


def _driver(folder: Path) -> str:
    """Return how layers are kept: as such, or, where the kernel refuses, in copies of half a GB."""
    with tempfile.TemporaryDirectory(dir=folder) as tried:
        for name in ("lower", "upper", "work", "merged"):
            (Path(tried) / name).mkdir()
        options = f"lowerdir={tried}/lower,upperdir={tried}/upper,workdir={tried}/work"
        argv = ["unshare", "-m", "--propagation", "private"]
        argv += ["mount", "-t", "overlay", "-o", options, "overlay", f"{tried}/merged"]
        works = subprocess.run(argv, capture_output=True, check=False).returncode == 0
    return "overlay" if works else "vfs"


def _hidden(argv: Sequence[str]) -> list[str]:
    if not os.path.ismount(_HYBRID):
        return list(argv)
    script = f"umount {_HYBRID} && exec {shlex.join(argv)}"
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", script]


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(argv)}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout
