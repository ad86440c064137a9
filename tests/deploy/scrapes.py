"""
What Prometheus would see of a process, as input of `promtool test rules`.

A test scrapes a real process twice while a fault is there. The alerts judge what they would see if
the fault went on so for an hour: each value goes on as it went between the two.
"""

import json
import time
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import NamedTuple

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

_MINUTES = 60
_S_PER_MINUTE = 60
_TIMESTAMP = "_timestamp_seconds"


class Scrape(NamedTuple):
    """Values by series, in promtool's notation."""

    at_s: float
    values: Mapping[str, float]


async def scrape(job: str, port: int) -> Scrape:
    """Scrape a process as Prometheus does, which notes whether it could."""
    target = {"job": job, "instance": f"127.0.0.1:{port}"}
    values: dict[str, float] = {}
    at_s = time.time()
    try:
        url = f"http://127.0.0.1:{port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            text = await answer.text()
    except aiohttp.ClientConnectionError:
        return Scrape(at_s, {_series("up", target): 0.0})
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[_series(sample.name, {**sample.labels, **target})] = sample.value
    return Scrape(at_s, {**values, _series("up", target): 1.0})


def as_input(first: Scrape, then: Scrape) -> Sequence[Mapping[str, str]]:
    """
    Return the input of an hour, a value a minute, that goes on as two scrapes of one process do.

    promtool's clock begins at 0, when the first was: points in time are counted from then.
    """
    minutes = (then.at_s - first.at_s) / _S_PER_MINUTE
    series = []
    for name, value in then.values.items():
        before = first.values.get(name, 0.0)
        if not isfinite(value) or not isfinite(before):
            continue  # promtool has no notation for them
        step = (value - before) / minutes
        start = before - first.at_s if _TIMESTAMP in name else before
        series.append({"series": name, "values": f"{start:.9f}{step:+.9f}x{_MINUTES}"})
    return series


def _series(name: str, labels: Mapping[str, str]) -> str:
    return name + "{" + ",".join(f"{key}={json.dumps(labels[key])}" for key in labels) + "}"
