"""
Callbacks: POST a status to the URL that a partner gave.

A partner's URL could lead into our own network. So:

- only hosts that the operator allows (`SEGMENTS_CALLBACK_HOSTS`; none by default);
- only public addresses, resolved when the connection is made, so the address checked is the
  address used;
- no redirects: an allowed host can't send us to another;
- only the answer's status counts; its body is not read.

Any answer but 2xx is retried, after ever longer pauses. Pending callbacks are in the ledger; a
process claims each before it sends. Metric:

    segments_callbacks_total{result}    delivered, postponed, given_up, not_allowed
"""

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import callbacks
from segments.ledger.callbacks import Callback
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.runtime.pauses import Backoff, wait_or_stop

_log = logging.getLogger(__name__)

EVERY_S = 1.0
TIMEOUT_S = 10.0
MAX_ATTEMPTS = 12
PAUSES = Backoff(5.0, 6 * 3600.0, factor=3.0)
"""Before each retry: 5 s, 15 s, 45 s, ... 6 hours."""

_AT_ONCE = 20
_CLAIM_S = 3 * TIMEOUT_S
"""How long a process keeps a callback."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


RESULTS = ("delivered", "postponed", "given_up", "not_allowed")


class CallbackMetrics:
    """The callback counter, in a process's `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "segments_callbacks", "Statuses POSTed to partners.", ("result",), registry=registry
        )
        # From 0, or the first attempt is no increase.
        for result in RESULTS:
            self._attempts.labels(result)

    def attempt(self, result: str) -> None:
        """Count an attempt to POST a status."""
        self._attempts.labels(result).inc()


class NotPublic(OSError):
    """A host has a non-public address."""


def is_allowed(host: str, allowed: Sequence[str]) -> bool:
    """Tell whether a host is allowed; `*.a.example` allows all below `a.example`."""
    name = host.lower().rstrip(".")
    return any(
        name.endswith(each[1:]) if each.startswith("*.") else name == each
        for each in map(str.lower, allowed)
    )


def is_public(address: str) -> bool:
    """
    Tell whether an address is public.

    An IPv4-mapped IPv6 address counts as its IPv4 address. Addresses of transition mechanisms
    (6to4, Teredo, NAT64) are not public: they may lead anywhere.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found.sixtofour is not None or found.teredo is not None or found in _NAT64:
            return False
    return found.is_global and not found.is_multicast


class _PublicResolver(AbstractResolver):
    def __init__(self, resolver: AbstractResolver, may_reach: Callable[[str], bool]) -> None:
        self._resolver = resolver
        self._may_reach = may_reach

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """
        Return a host's addresses.

        Raises:
            NotPublic: An address is not public; then none is trusted.
        """
        found = await self._resolver.resolve(host, port, family)  # type: ignore[arg-type]
        if not all(self._may_reach(each["host"]) for each in found):
            raise NotPublic("the host has an address that is not public")
        return found

    async def close(self) -> None:
        await self._resolver.close()


class Callbacks:
    """Sends due callbacks."""

    def __init__(
        self,
        ledger: AsyncEngine,
        allowed_hosts: Sequence[str],
        now_s: Callable[[], float] = time.time,
        may_reach: Callable[[str], bool] = is_public,
        resolver: AbstractResolver | None = None,
        *,
        metrics: CallbackMetrics | None = None,
    ) -> None:
        self._metrics = metrics or CallbackMetrics(CollectorRegistry())
        self._ledger = ledger
        self._allowed_hosts = allowed_hosts
        self._now_s = now_s
        self._may_reach = may_reach
        self._resolver = resolver

    async def run(self, stopping: asyncio.Event) -> None:
        """Send due callbacks until stopped."""
        while not stopping.is_set():
            try:
                sent = await self.turn()
            except LEDGER_FAILURES as error:
                _log.error("callbacks: %s", type(error).__name__)
                sent = 0
            if not sent:
                await wait_or_stop(stopping, EVERY_S)

    async def turn(self) -> int:
        """Try each due callback once; return how many."""
        now_s = self._now_s()
        async with reading(self._ledger) as conn:
            due = await callbacks.due(conn, now_s, _AT_ONCE)
        if due:
            async with self._ledger.begin() as conn:
                due = await callbacks.claim(conn, due, now_s, until_s=now_s + _CLAIM_S)
        if due:
            async with self._session() as session:
                await asyncio.gather(*(self._try(session, callback) for callback in due))
        return len(due)

    def _session(self) -> aiohttp.ClientSession:
        resolver = _PublicResolver(self._resolver or DefaultResolver(), self._may_reach)
        return aiohttp.ClientSession(
            # No DNS cache: each attempt is checked. No proxy: it would resolve names itself.
            connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def _try(self, session: aiohttp.ClientSession, callback: Callback) -> None:
        fault, is_not_allowed = await self._post(session, callback)
        is_final = is_not_allowed or callback.attempts + 1 >= MAX_ATTEMPTS
        async with self._ledger.begin() as conn:
            if fault is None or is_final:
                await callbacks.remove(conn, callback)
            else:
                due_at_s = self._now_s() + PAUSES.after(callback.attempts + 1)
                await callbacks.postpone(conn, callback, due_at_s)
        self._metrics.attempt(
            "delivered"
            if fault is None
            else "not_allowed"
            if is_not_allowed
            else "given_up"
            if is_final
            else "postponed"
        )
        if fault is not None:
            # Not the URL: it may contain a partner's secret.
            _log.warning(
                "callback of delivery %s: %s%s",
                callback.transaction_id or "(refused)",
                fault,
                ", given up" if is_final else "",
            )

    async def _post(
        self, session: aiohttp.ClientSession, callback: Callback
    ) -> tuple[str | None, bool]:
        """Return the fault, if any, and whether it is a forbidden URL."""
        host = urlsplit(callback.url).hostname or ""
        if not is_allowed(host, self._allowed_hosts):
            return "its host is not one of SEGMENTS_CALLBACK_HOSTS", True
        # aiohttp bypasses the resolver if the host is an address.
        if _is_address(host) and not self._may_reach(host):
            return "its host is not public", True
        try:
            async with session.post(
                callback.url,
                data=callback.body.encode(),
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as answer:
                if 200 <= answer.status < 300:
                    return None, False
                return f"answered {answer.status}", False
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return type(error).__name__, False


def _is_address(host: str) -> bool:
    """
    Tell whether a resolver may take a host for an address, in any notation.

    `2130706433`, `0x7f.1` and `127.1` all mean 127.0.0.1: by the URL Standard, a host whose last
    label is a number is an address. `is_public` refuses unusual notations.
    """
    last = host.rstrip(".").rpartition(".")[2].lower()
    return ":" in host or last.isdigit() or last.startswith("0x")
