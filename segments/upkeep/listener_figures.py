"""
Reads the bid listeners' counts and health from their admin ports.

A listener that does not answer is reported as such, and the others' figures count.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

WITHIN_S = 3.0
_MAX_BYTES = 8 << 20
_ENDINGS = "rtb_requests_total"
_ANSWERED = "rtb_request_seconds_bucket"
_CONNECTIONS = "rtb_connections"
_WORKERS = "rtb_workers"
_READY_WORKERS = "rtb_workers_ready"
_SHOWN = (_ENDINGS, _ANSWERED, _CONNECTIONS, _WORKERS)  # each as a line begins


class Ending(NamedTuple):
    """A recipient's bids with the same outcome, as the labels of `rtb_requests` say it."""

    recipient: str  # empty: the trusted caller
    outcome: str
    reason: str


class Counts(NamedTuple):
    """
    A listener's counts since its start.

    Attributes:
        endings: Bids by their ending.
        edge_to_answers: Answers by their duration in seconds, cumulative as in Prometheus; the last
            edge is infinite.
        connections: Open now.
        workers: Processes that answer bids.
        ready_workers: Those that can.
    """

    endings: Mapping[Ending, float]
    edge_to_answers: Mapping[float, float]
    connections: int
    workers: int = 0
    ready_workers: int = 0


class Reading(NamedTuple):
    """
    A listener at a moment.

    Attributes:
        url: Of its admin port.
        at_s: Unix time.
        counts: `None`: it was not read, because of `trouble`.
        version: Its release.
        is_ready: Whether it answers bids.
        is_enriching: Whether bids are enriched, too.
        reason: Why not, in its own words.
    """

    url: str
    at_s: float
    counts: Counts | None = None
    trouble: str = ""
    version: str = ""
    is_ready: bool = False
    is_enriching: bool = False
    reason: str = ""


class _Health(msgspec.Struct):
    ready: bool
    enriching: bool
    reason: str
    version: str = ""


async def read_all(urls: Sequence[str], now_s: Callable[[], float]) -> list[Reading]:
    """Return a reading of each listener, in order; `now_s` tells Unix time."""
    within = aiohttp.ClientTimeout(total=WITHIN_S)
    async with aiohttp.ClientSession(timeout=within) as session:
        return list(await asyncio.gather(*(_read(session, url, now_s) for url in urls)))


def counts_of(metrics: str) -> Counts:
    """
    Return the counts of a listener's `/metrics`.

    Raises:
        ValueError: It is no text of Prometheus.
    """
    lines = [line for line in metrics.splitlines() if line.startswith(_SHOWN)]
    endings: dict[Ending, float] = {}
    edge_to_answers: dict[float, float] = {}
    connections = workers = ready_workers = 0
    for family in text_string_to_metric_families("\n".join([*lines, ""])):
        for sample in family.samples:
            labels = sample.labels
            if sample.name == _ENDINGS:
                ending = Ending(*(labels.get(label, "") for label in Ending._fields))
                endings[ending] = sample.value
            elif sample.name == _ANSWERED:
                edge_to_answers[float(labels["le"])] = sample.value
            elif sample.name == _CONNECTIONS:
                connections = int(sample.value)
            elif sample.name == _WORKERS:
                workers = int(sample.value)
            elif sample.name == _READY_WORKERS:
                ready_workers = int(sample.value)
    edges = dict(sorted(edge_to_answers.items()))
    return Counts(endings, edges, connections, workers, ready_workers)


async def _read(session: aiohttp.ClientSession, url: str, now_s: Callable[[], float]) -> Reading:
    try:
        health = await _get(session, URL(url) / "health" / "ready")
        metrics = await _get(session, URL(url) / "metrics")
    except TimeoutError:
        return Reading(url, now_s(), trouble=f"it does not answer within {WITHIN_S:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Reading(url, now_s(), trouble=f"it can't be reached ({type(error).__name__})")
    try:
        said = msgspec.json.decode(health, type=_Health)
        counts = counts_of(metrics.decode())
    except (msgspec.DecodeError, ValueError, KeyError):
        return Reading(url, now_s(), trouble="it is no bid listener of this version")
    return Reading(url, now_s(), counts, "", said.version, said.ready, said.enriching, said.reason)


async def _get(session: aiohttp.ClientSession, url: URL) -> bytes:
    async with session.get(url, allow_redirects=False) as answer:
        parts: list[bytes] = []
        left = _MAX_BYTES
        async for part in answer.content.iter_any():
            left -= len(part)
            if left < 0:
                raise aiohttp.ClientPayloadError
            parts.append(part)
        return b"".join(parts)
