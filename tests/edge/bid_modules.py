"""
Sends bids to a worker, and prints the modules of ours that ran for them, one a line.

    python -m tests.edge.bid_modules REDIS_URL

In a process of its own, where `rtb` and `segments` are interpreted whatever was compiled:
what is compiled leaves no trace. A module ran for a bid if one of its functions was called
by the bid's connection, by what batches bids, or by the store's link; what a worker does
besides comes from none of them.
"""

import asyncio
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import FrameType, ModuleType
from typing import Any

_OURS = ("rtb.", "segments.")
_ENTRANCES = {"rtb.server.http.protocol", "rtb.server.bids", "rtb.lookup.link"}


class SourceAlone(MetaPathFinder):
    """Finds the source of our modules, never what was compiled from it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module below a package's folders; part of `MetaPathFinder`."""
        if not fullname.startswith(_OURS):
            return None
        for folder in path or ():
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is not None:
                return spec
        return None


class Trace:
    """The modules that ran for bids; a profile function of Python's."""

    def __init__(self) -> None:
        self.modules: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Note the module of a function that is called for a bid."""
        module = str(frame.f_globals.get("__name__"))
        if event == "call" and module.startswith(_OURS) and module not in self.modules:
            outer: FrameType | None = frame
            while outer is not None and outer.f_globals.get("__name__") not in _ENTRANCES:
                outer = outer.f_back
            if outer is not None:
                self.modules.add(module)


async def _bid(url: str, trace: Trace) -> None:
    # Not before `SourceAlone` is there to find what they import.
    from tests.edge.client import connected, request
    from tests.edge.small_store import MEMBER, OPTED_OUT, STRANGER, bid_request, serving

    kinds: Sequence[dict[str, Any]] = (
        {},
        {"remember_seen": True, "cache_bytes": 1_000_000, "debug_header": True},
    )
    others = {
        "curation_gdpr_when_unsaid": False,
        "targeting": True,
        "targeting_recipients": ("dsp-a",),
        "targeting_gdpr_when_unsaid": False,
    }
    paths = (
        "/openrtb2/enrich/dsp-a",
        "/openrtb25/dsp-a",
        "/openrtb2/patch/dsp-a",
        "/curation/dsp-a",
    )
    queries = ("&gdpr=0", "&gdpr=1", "&gpp=DBABTA~1YNN&gpp_sid=Optional[6]&lmt=0")
    signals: Sequence[dict[str, Any]] = (
        {},
        {"regs": {"gdpr": 1}},
        {"regs": {"us_privacy": "1NNN"}},
        {"regs": {"gpp": "DBABTA~1YNN", "gpp_sid": [6]}, "device": {"lmt": 0}},
    )
    for settings in kinds:
        async with serving(url, **others, **settings) as service, connected(service.port) as client:
            sys.setprofile(trace)
            for path in paths:
                for person in (MEMBER, MEMBER, OPTED_OUT, STRANGER, None):
                    for fields in signals:
                        await client.post(bid_request(person, **fields), path)
            for person in (MEMBER, OPTED_OUT, STRANGER):
                for query in queries:
                    client.send(
                        request(b"", f"/v2/targeting?t=dsp-a&o=p&id=e%3A{person}{query}", "GET")
                    )
                    await client.answer()
            sys.setprofile(None)


def main() -> None:
    """Print the modules, sorted."""
    sys.meta_path.insert(0, SourceAlone())
    trace = Trace()
    asyncio.run(_bid(sys.argv[1], trace))
    sys.stdout.write("\n".join(sorted(trace.modules)))


if __name__ == "__main__":
    main()
