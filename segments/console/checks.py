"""
What `rtb-segments doctor` finds, looked at again each minute: pages show the last look.

An examination asks the store and the storage, so no page waits for one but that of all checks.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from typing import NamedTuple

from segments.ledger.database.errors import LEDGER_FAILURES
from segments.runtime.pauses import wait_or_stop
from segments.upkeep.doctor.examination import examine
from segments.upkeep.doctor.findings import Deployment, Finding, Grade

EVERY_S = 60.0
LOOKS_FOR_S = 30.0


class Look(NamedTuple):
    """An examination."""

    at_s: float = 0.0  # 0: there was none yet
    findings: Sequence[Finding] = ()
    is_cut: bool = False  # not done within `LOOKS_FOR_S`

    @property
    def troubles(self) -> list[Finding]:
        """What is not as it should be, the worst first."""
        found = [each for each in self.findings if each.grade is not Grade.GOOD]
        return sorted(found, key=lambda each: each.grade is not Grade.BAD)


class Checks:
    """The examinations of a deployment; `None`: of nothing."""

    def __init__(
        self, deployment: Deployment | None = None, now_s: Callable[[], float] = time.time
    ) -> None:
        self._deployment = deployment
        self._now_s = now_s
        self.last = Look()

    async def run(self, stopping: asyncio.Event) -> None:
        """Look each minute until stopped."""
        while not stopping.is_set():
            with suppress(*LEDGER_FAILURES):  # readiness reports them
                await self.look()
            await wait_or_stop(stopping, EVERY_S)

    async def look(self) -> Look:
        """Examine the deployment now."""
        findings: list[Finding] = []
        is_cut = False
        if self._deployment is not None:
            try:
                async with (
                    asyncio.timeout(LOOKS_FOR_S),
                    aclosing(examine(self._deployment)) as found,
                ):
                    async for finding in found:
                        findings.append(finding)  # noqa: PERF401 - what is there counts if time runs out
            except TimeoutError:
                is_cut = True
        self.last = Look(self._now_s(), findings, is_cut)
        return self.last
