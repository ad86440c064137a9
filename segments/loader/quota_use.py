"""A metric of the share of their quotas that partners have used."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, quotas
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.runtime.pauses import wait_or_stop

LOOK_EVERY_S: Final = 60.0


class QuotaUse:
    """Measures the use of quotas."""

    def __init__(
        self, ledger: AsyncEngine, registry: CollectorRegistry, now_s: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._now_s = now_s
        self._used = Gauge(
            "segments_quota_used_ratio",
            "What partners have used of each quota that is set.",
            ["account", "quota"],
            registry=registry,
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Look every minute until stopped."""
        while not stopping.is_set():
            with suppress(*LEDGER_FAILURES):  # readiness reports these
                await self.look()
            await wait_or_stop(stopping, LOOK_EVERY_S)

    async def look(self) -> None:
        """Measure once."""
        used: dict[tuple[str, str], float] = {}
        async with reading(self._ledger) as conn:
            for partner_id, quota in (await quotas.quotas(conn)).items():
                partner = await accounts.account(conn, partner_id)
                use = await quotas.use_of(conn, partner_id, self._now_s())
                for name, limit in quota._asdict().items():
                    if limit is not None:
                        share = getattr(use, name) / limit if limit else 1.0
                        used[partner.public_id, name] = share
        self._used.clear()
        for labels, share in used.items():
            self._used.labels(*labels).set(share)
