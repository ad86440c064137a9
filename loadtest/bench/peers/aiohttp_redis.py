"""
The same contract as a good engineer would write it: aiohttp, redis-py, orjson.

Our listener is measured against this peer, so it is no straw man: uvloop, the hiredis parser, one
pooled client, no access log, the catalog in memory and refreshed in the background, one round trip
per request, and an untouched body where nothing changes. Store, records and answers are the same:
`loadtest.bench.against_peers` compares 1,000 answers with ours before it measures.

Omissions in its favour: metrics, limits, slow clients, gzip, activation windows. A limitation:
orjson parses numbers, so `1.10` leaves as `1.1`, and thirty digits as a float.
"""

import argparse
import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson
import uvloop
from aiohttp import web
from redis.asyncio import Redis

from segments.model import record
from segments.model.catalog import CatalogSnapshot
from segments.model.identity import (
    Id,
    UnusableId,
    id_of_duid,
    id_of_eid,
    id_of_email_hash,
    id_of_ifa,
)
from segments.store.keys import bucket_key, bucket_of, field_of
from segments.store.reader import read_catalog, read_meta, read_version

Json = dict[str, Any]

MAX_IDS = 10
REFRESH_S = 0.5
NO_DEVICE = "00000000-0000-0000-0000-000000000000"
_STYPES = frozenset({"hemsha256", "hemmd5", "hemsha1"})
_HEX = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
US_PRIVACY = re.compile(r"1[YN-]{3}", re.IGNORECASE)


class Audience(NamedTuple):
    """An audience as an answer needs it."""

    owner_id: int
    partner_id: str
    partner_name: str
    segtax: int | None
    segment_id: str


class Budget(NamedTuple):
    """The time for a request: milliseconds, and a share of its `tmax`."""

    cap_ms: float = 20.0
    tmax_share: float = 0.1


class Catalog:
    """The audiences that each recipient may see, by the number that records hold."""

    def __init__(self, snapshot: CatalogSnapshot) -> None:
        accounts = {account.id: account for account in snapshot.accounts if account.is_active}
        self.version = snapshot.version
        self.everyone: dict[int, Audience] = {}
        self.recipients: dict[str, dict[int, Audience]] = {}
        for entry in snapshot.audiences:
            partner = accounts.get(entry.partner_id)
            if entry.is_active and partner is not None and entry.owner_id in accounts:
                self.everyone[entry.id] = Audience(
                    entry.owner_id,
                    partner.public_id,
                    partner.name,
                    partner.segtax,
                    entry.segment_id,
                )
        partner_of = {entry.id: entry.partner_id for entry in snapshot.audiences}
        for recipient in snapshot.recipients:
            granted = frozenset(recipient.partner_ids)
            if recipient.is_active:
                self.recipients[recipient.name] = {
                    id_: audience
                    for id_, audience in self.everyone.items()
                    if partner_of[id_] in granted
                }


class Lookups:
    """Places in a store of `bucket_bits` of a question's ids."""

    def __init__(self, bucket_bits: int) -> None:
        self._bucket_bits = bucket_bits

    def commands(self, ids: list[Id]) -> list[tuple[str, bytes, bytes]]:
        """Return a command for each id."""
        return [("HGET", bucket_key(bucket_of(i, self._bucket_bits)), field_of(i)) for i in ids]

    async def found(self, redis: Redis, ids: list[Id]) -> list[bytes | None]:
        """Return the records of the ids, from one round trip."""
        commands = self.commands(ids)
        if len(commands) == 1:
            return [await redis.execute_command(*commands[0])]  # type: ignore[no-untyped-call] # redis-py
        async with redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute()


def shown(
    found: list[bytes | None], audiences: Mapping[int, Audience]
) -> dict[int, Audience] | None:
    """Return a person's audiences to show, by number; `None`: opted out of all."""
    records = [record.unpack(value) for value in found if value is not None]
    opted_out = {o.account_id for r in records for o in r.opt_outs}
    if record.EVERYONE in opted_out:
        return None
    today = record.day_of(time.time())
    segments = {
        audience_id: audiences[audience_id]
        for r in records
        for audience_id, expiry_day in r.memberships
        if audience_id in audiences and not 0 < expiry_day < today
    }
    if opted_out:
        segments = {i: a for i, a in segments.items() if a.owner_id not in opted_out}
    return segments


class Enricher:
    """The service's handlers and state."""

    def __init__(self, redis: Redis, bucket_bits: int, catalog: Catalog, budget: Budget) -> None:
        self.redis = redis
        self.lookups = Lookups(bucket_bits)
        self.catalog = catalog
        self.budget = budget

    async def enrich(self, request: web.Request) -> web.Response:
        """Answer `POST /openrtb2/enrich[/{recipient}]`."""
        audiences = self._audiences(request.match_info.get("recipient"))
        body = await request.read()
        try:
            bid_request = orjson.loads(body)
        except orjson.JSONDecodeError:
            return web.Response(status=400, headers={"X-Enrich-Outcome": "malformed"})
        if not isinstance(bid_request, dict):
            return web.Response(status=400, headers={"X-Enrich-Outcome": "malformed"})

        ids = list(dict.fromkeys(_ids(bid_request)))
        if _strip(bid_request):
            body = orjson.dumps(bid_request)
        if not ids:
            return _answer(body, "no_identity")
        if len(ids) > MAX_IDS or _refuses(bid_request):
            return _answer(body, "no_consent")

        deadline_ms = self.budget.cap_ms
        if tmax_ms := bid_request.get("tmax"):
            deadline_ms = min(deadline_ms, tmax_ms * self.budget.tmax_share)
        try:
            async with asyncio.timeout(deadline_ms / 1_000):
                found = await self.lookups.found(self.redis, ids)
        except TimeoutError:
            return _answer(body, "out_of_time")
        except OSError:
            return _answer(body, "store_down")

        segments = shown(found, audiences)
        if segments is None:
            return _answer(body, "opted_out")
        if not _inject(bid_request, segments):
            return _answer(body, "no_match")
        return _answer(orjson.dumps(bid_request), "enriched")

    async def follow_catalog(self, app: web.Application) -> Any:
        """Keep the catalog fresh; an aiohttp cleanup context."""

        async def follow() -> None:
            while True:
                await asyncio.sleep(REFRESH_S)
                if await read_version(self.redis) != self.catalog.version:
                    self.catalog = Catalog(await read_catalog(self.redis))

        task = asyncio.create_task(follow())
        yield
        task.cancel()

    def _audiences(self, recipient: str | None) -> Mapping[int, Audience]:
        if recipient is None:
            return self.catalog.everyone
        try:
            return self.catalog.recipients[recipient]
        except KeyError:
            raise web.HTTPNotFound from None


def _answer(body: bytes, outcome: str) -> web.Response:
    return web.Response(
        body=body, content_type="application/json", headers={"X-Enrich-Outcome": outcome}
    )


def _ids(bid_request: Json) -> Iterator[Id]:
    """Yield the identifiers of docs/field.md, "Identifiers"."""
    user = bid_request.get("user") or {}
    ext = user.get("ext") or {}
    device = bid_request.get("device") or {}
    is_child = (bid_request.get("regs") or {}).get("coppa") == 1
    for eid in user.get("eids") or ext.get("eids") or ():
        source = eid.get("source", "").lower()
        for uid in eid.get("uids") or ():
            yield from ids_of_uid(source, uid.get("id", ""), uid.get("ext") or {}, is_child)
    emails = (ext.get("hashes") or {}).get("email") or ()
    for email in (emails,) if isinstance(emails, str) else emails:
        yield from usable(id_of_email_hash, email)
    ifa = device.get("ifa")
    if ifa and ifa != NO_DEVICE and device.get("lmt") != 1:
        yield from usable(id_of_ifa, ifa)


def ids_of_uid(source: str, uid: str, ext: Json, is_child: bool) -> Iterator[Id]:
    """Yield the id of a uid under its source, if it is looked up."""
    if source == "liveintent.com":
        if _HEX.fullmatch(uid):
            yield id_of_email_hash(uid)
        else:
            yield from usable(id_of_eid, source, uid)
    elif source == "fpid.liveintent.com":
        if not is_child:
            yield from usable(id_of_duid, uid)
    elif ext.get("stype") in _STYPES:
        yield from usable(id_of_email_hash, uid)
    elif ext.get("provider") == "liveintent.com":
        yield from usable(id_of_eid, source, uid)


def usable(make: Callable[..., Id], *text: str) -> Iterator[Id]:
    """Yield an identifier's id, if usable."""
    try:
        yield make(*text)
    except UnusableId:
        return


def _refuses(bid_request: Json) -> bool:
    """
    Tell whether the request forbids enrichment: docs/field.md, "Consent", without TCF and GPP.
    """
    regs = bid_request.get("regs") or {}
    ext = regs.get("ext") or {}
    user = bid_request.get("user") or {}
    if regs.get("coppa") == 1 or (bid_request.get("device") or {}).get("lmt") == 1:
        return True
    if ext.get("gpc") == "1":
        return True
    for us_privacy in (regs.get("us_privacy"), ext.get("us_privacy")):
        if us_privacy is None:
            continue
        if not US_PRIVACY.fullmatch(us_privacy) or us_privacy[2] in "Yy":
            return True
    gdpr = (regs.get("gdpr"), ext.get("gdpr"))
    if 1 in gdpr:
        return True
    if 0 not in gdpr and (user.get("consent") or (user.get("ext") or {}).get("consent")):
        return True
    sids = [sid for said in (regs, ext) for sid in said.get("gpp_sid") or ()]
    if not sids:
        return bool(regs.get("gpp") or ext.get("gpp"))
    return any(sid > 0 for sid in sids)  # -1: no section applies


def _strip(bid_request: Json) -> bool:
    ext: Json = (bid_request.get("user") or {}).get("ext") or {}
    return ext.pop("hashes", None) is not None


def _inject(bid_request: Json, shown: Mapping[int, Audience]) -> bool:
    """Append segments to `user.data`, one `Data` per partner; tell whether any is new."""
    by_partner: dict[str, list[Audience]] = {}
    for _, audience in sorted(shown.items()):
        by_partner.setdefault(audience.partner_id, []).append(audience)
    # A Data of another taxonomy is not ours.
    present: dict[tuple[str, int | None], Json] = {}
    for data in (bid_request.get("user") or {}).get("data") or ():
        present.setdefault((data.get("id"), (data.get("ext") or {}).get("segtax")), data)
    is_new = False
    for partner_id, audiences in by_partner.items():
        data = present.get((partner_id, audiences[0].segtax))
        held = {s.get("id") for s in data.get("segment") or ()} if data else set()
        segments = [{"id": i} for i in dict.fromkeys(a.segment_id for a in audiences)]
        segments = [segment for segment in segments if segment["id"] not in held]
        if not segments:
            continue
        is_new = True
        if data is not None:
            data["segment"] = [*(data.get("segment") or ()), *segments]
            continue
        data = {"id": partner_id, "name": audiences[0].partner_name, "segment": segments}
        if audiences[0].segtax is not None:
            data["ext"] = {"segtax": audiences[0].segtax}
        bid_request.setdefault("user", {}).setdefault("data", []).append(data)
    return is_new


async def _application(store_url: str, budget: Budget) -> web.Application:
    # The request's deadline bounds each call.
    redis = Redis.from_url(store_url, max_connections=64, socket_timeout=None)
    meta = await read_meta(redis)
    catalog = Catalog(await read_catalog(redis))
    enricher = Enricher(redis, meta.bucket_bits, catalog, budget)
    app = web.Application()
    app.router.add_post("/openrtb2/enrich", enricher.enrich)
    app.router.add_post("/openrtb2/enrich/{recipient}", enricher.enrich)
    app.cleanup_ctx.append(enricher.follow_catalog)
    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--store-url", required=True)
    parser.add_argument("--deadline-ms", type=float, default=20.0)
    parser.add_argument("--tmax-share", type=float, default=0.1)
    options = parser.parse_args()
    uvloop.install()
    web.run_app(
        _application(options.store_url, Budget(options.deadline_ms, options.tmax_share)),
        host="127.0.0.1",
        port=options.port,
        access_log=None,
        print=None,
    )


if __name__ == "__main__":
    main()
