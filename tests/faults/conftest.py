"""The edge runs on uvloop, and so do its tests."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests of this directory on the event loop of the bid listener."""
    return {"uvloop": uvloop.new_event_loop}
