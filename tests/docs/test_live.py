"""What a running service shows and serves, and what the pages say of it."""

import asyncio
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from loadtest.ports import free_ports
from rtb.outcome import OutcomeHeader
from rtb.server.answer_forms import FORMS
from rtb.server.explain_endpoint import PATH as EXPLAIN_PATH
from rtb.server.metrics.admin_port import Board, application
from rtb.server.metrics.following import followed
from segments.publish.keep_publishing import PublishMetrics
from segments.runtime.follow_status import FollowStatus
from tests.docs.pages import PAGES, ROOT, code_in, rows_of, spans_of, words_of
from tests.e2e.service import Service

OPERATIONS = ROOT / "docs/operations.md"
FIELD = ROOT / "docs/field.md"
"""What vendors' documents say: their paths, which are not all ours."""

_BID_PATHS = (*(path.decode() for path in FORMS[OutcomeHeader.FULL]), EXPLAIN_PATH)

_METRIC = re.compile(r"^(?:rtb|segments|process|http_server|rpc_server)_[a-z_]+$")
_NOT_METRICS = {"process_consent"}
_CALL = re.compile(r"^(GET|POST|PUT|PATCH|DELETE) (/\S*)$")


class Shown(NamedTuple):
    """What a running service shows."""

    families: dict[str, Metric]  # by the name that its samples have, or a histogram's own
    calls: set[tuple[str, str]]  # method and path of each operation of the REST doors


@pytest.fixture
async def shown(tmp_path: Path) -> Shown:
    api, *admin = free_ports(4)
    names = ("SEGMENTS_LOADER_PORT", "SEGMENTS_SFTP_ADMIN_PORT", "SEGMENTS_API_ADMIN_PORT")
    service = Service(
        tmp_path, SEGMENTS_API_PORT=str(api), **dict(zip(names, map(str, admin), strict=True))
    )
    async with service.running():
        families: dict[str, Metric] = {}
        for port in (service.admin_port, *admin):
            families |= _families(await _read(f"http://127.0.0.1:{port}/metrics"))
        families |= _of_publisher() | _of_follower()
        described = json.loads(await _read(f"http://127.0.0.1:{api}/openapi.json"))
    calls = {
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    }
    return Shown(families, calls)


async def _read(url: str) -> str:
    """Read from a process that may just be starting: only the bid listener is waited for."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    return await answer.text()
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


def _of_publisher() -> dict[str, Metric]:
    """Return what a publisher shows; it needs a key and a place, and nothing that runs here."""
    registry = CollectorRegistry()
    PublishMetrics(registry)
    return _families(generate_latest(registry).decode())


def _of_follower() -> dict[str, Metric]:
    """Return what a pod that follows shows besides."""
    registry = CollectorRegistry()
    registry.register(_Followed())
    return _families(generate_latest(registry).decode())


class _Followed(Collector):
    def collect(self) -> Iterable[Metric]:
        return followed(FollowStatus(pid=1, max_age_s=900), 0, 0)


def _families(text: str) -> dict[str, Metric]:
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for family in text_string_to_metric_families(text)
        if _METRIC.match(family.name) and not family.name.endswith("_created")
    }


async def test_pages_and_the_running_service_agree(shown: Shown) -> None:
    """
    One service for all of it: to start one takes longer than to ask it everything.
    """
    assert sorted(words_of(OPERATIONS, "metric")) == sorted(shown.families)
    assert _labels_said() == {
        name: labels
        for name, labels in _labels_said().items()
        if not shown.families[name].samples or labels == _labels_of(shown.families[name])
    }
    for page in PAGES:
        assert _names_said(page) <= set(shown.families) | _parts_of(shown.families), page

    said = set().union(*(_calls_said(page) for page in PAGES if page != FIELD))
    assert {call for call in said if not call[1].startswith(_BID_PATHS)} <= shown.calls
    assert shown.calls <= said


def _names_said(page: Path) -> set[str]:
    return {code for code in code_in(page) if _METRIC.match(code)} - _NOT_METRICS


def _parts_of(families: Iterable[str]) -> set[str]:
    return {f"{name}{end}" for name in families for end in ("_bucket", "_sum", "_count")}


def _labels_said() -> dict[str, set[str]]:
    return {
        name: set(re.findall(r"`([^`]+)`", row[1]))
        for row in rows_of(OPERATIONS, "metric")
        for name in re.findall(r"`([^`]+)`", row[0])
    }


def _labels_of(family: Metric) -> set[str]:
    return {label for sample in family.samples for label in sample.labels} - {"le"}


def _calls_said(page: Path) -> set[tuple[str, str]]:
    """Methods and paths of the calls that a page names, `also /path` with the method before it."""
    calls: set[tuple[str, str]] = set()
    method = ""
    for span in spans_of(page):
        if found := _CALL.match(span):
            method = found[1]
            calls.add((method, found[2]))
        elif method and re.match(r"^/[a-z]+/[a-z]+", span):
            calls.add((method, span))
        else:
            method = ""
    return calls


def test_each_path_of_the_bid_listener_s_admin_port_is_on_the_page() -> None:
    app = application(Board([]))
    served = {route.resource.canonical for route in app.router.routes() if route.resource}

    assert served == set(words_of(OPERATIONS, "path"))
