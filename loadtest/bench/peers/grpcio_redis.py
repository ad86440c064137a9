"""
The contract of the ARTF door as a good engineer would write it: grpcio, redis-py, protobuf's upb.

grpcio has two servers, and both run from here: threads with redis-py's blocking client, or, by
`--aio`, coroutines on uvloop with its asyncio client. The rest is that of
`peers/aiohttp_redis.py`: the same store, records and catalog, one round trip a call, and the same
omissions in its favour. Of a call, the recipient is its originator's id, as in the map of
`RTB_ARTF_RECIPIENT`.
"""

import argparse
import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
import uvloop
from redis import ConnectionPool, Redis
from redis.asyncio import Redis as AsyncRedis

from loadtest.artf.messages import artf
from loadtest.bench.peers.aiohttp_redis import (
    MAX_IDS,
    NO_DEVICE,
    REFRESH_S,
    US_PRIVACY,
    Audience,
    Catalog,
    Lookups,
    ids_of_uid,
    shown,
    usable,
)
from segments.model.identity import Id, id_of_ifa
from segments.store.reader import read_catalog, read_meta, read_version

SERVICE = "com.iabtechlab.bidstream.mutation.services.v1.RTBExtensionPoint"
_THREADS = 8
"""Measured: 173 µs a call, where a single thread takes 234."""
_PATH = "/user/data/segment"


class Answer(NamedTuple):
    """An answer, and its outcome for the header."""

    message: Any
    outcome: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The initial metadata."""
        return (("x-enrich-outcome", self.outcome),)


class Asked(NamedTuple):
    """A call on its way to the store."""

    message: Any
    audiences: Mapping[int, Audience]
    ids: list[Id]


class Door:
    """The stages before and after the store."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def ask(self, message: Any) -> Asked | Answer:
        """Decide which ids to look up, or answer at once."""
        audiences = self.catalog.recipients.get(message.originator.id)
        if audiences is None:
            return self.nothing(message, "malformed")
        if not message.HasField("bid_request") or not message.bid_request.HasField("id"):
            return self.nothing(message, "malformed")
        bid_request = message.bid_request
        ids = list(dict.fromkeys(_ids(bid_request)))
        if not ids:
            return self.nothing(message, "no_identity")
        if len(ids) > MAX_IDS or _refuses(bid_request):
            return self.nothing(message, "no_consent")
        return Asked(message, audiences, ids)

    def answer(self, asked: Asked, found: list[bytes | None]) -> Answer:
        """Answer with the segments of the records."""
        segments = shown(found, asked.audiences)
        if segments is None:
            return self.nothing(asked.message, "opted_out")
        data = asked.message.bid_request.user.data
        present = {(of.id, segment.id) for of in data for segment in of.segment}
        texts = {
            f"{audience.partner_id}:{audience.segment_id}": None
            for _, audience in sorted(segments.items())
            if (audience.partner_id, audience.segment_id) not in present
        }
        if not texts:
            return self.nothing(asked.message, "no_match")
        answer = self.nothing(asked.message, "enriched")
        mutation = answer.message.mutations.add(
            intent=artf.ACTIVATE_SEGMENTS, op=artf.OPERATION_ADD, path=_PATH
        )
        mutation.ids.id.extend(texts)
        return answer

    def nothing(self, message: Any, outcome: str) -> Answer:
        """Answer without mutations."""
        metadata = artf.Metadata(api_version="1.0", model_version=str(self.catalog.version))
        return Answer(artf.RTBResponse(id=message.id, metadata=metadata), outcome)


def _ids(bid_request: Any) -> Iterator[Id]:
    is_child = bid_request.regs.coppa == 1
    user, device = bid_request.user, bid_request.device
    for eid in user.eids or user.ext.eids:
        source = eid.source.lower()
        for uid in eid.uids:
            yield from ids_of_uid(source, uid.id, {}, is_child)
    if device.ifa and device.ifa != NO_DEVICE and not device.lmt:
        yield from usable(id_of_ifa, device.ifa)


def _refuses(bid_request: Any) -> bool:
    regs, user = bid_request.regs, bid_request.user
    if regs.coppa or bid_request.device.lmt or regs.ext.gpc == "1":
        return True
    for said in (regs, regs.ext):
        if said.HasField("us_privacy"):
            text = said.us_privacy
            if not US_PRIVACY.fullmatch(text) or text[2] in "Yy":
                return True
    gdpr = [said.gdpr for said in (regs, regs.ext) if said.HasField("gdpr")]
    if any(gdpr) or (not gdpr and (user.consent or user.ext.consent)):
        return True
    sids = regs.gpp_sid
    return any(sid > 0 for sid in sids) if sids else bool(regs.gpp)


def _serve_by_threads(port: int, store_url: str, deadline_s: float) -> None:
    pool = ConnectionPool.from_url(
        store_url, max_connections=_THREADS + 1, socket_timeout=deadline_s
    )
    redis = Redis(connection_pool=pool)
    bucket_bits, catalog = asyncio.run(_read(store_url))
    door, lookups = Door(catalog), Lookups(bucket_bits)

    def get_mutations(message: Any, context: grpc.ServicerContext) -> Any:
        asked = door.ask(message)
        if isinstance(asked, Asked):
            commands = lookups.commands(asked.ids)
            if len(commands) == 1:
                found = [redis.execute_command(*commands[0])]  # type: ignore[no-untyped-call] # redis-py
            else:
                with redis.pipeline(transaction=False) as pipeline:
                    for command in commands:
                        pipeline.execute_command(*command)  # type: ignore[no-untyped-call] # likewise
                    found = pipeline.execute()
            asked = door.answer(asked, found)
        context.send_initial_metadata(asked.metadata)
        return asked.message

    server = grpc.server(
        ThreadPoolExecutor(_THREADS), handlers=[_handlers(get_mutations)], options=_OPTIONS
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    server.start()
    while not stopped.wait(REFRESH_S):
        catalog = asyncio.run(_read_if_newer(store_url, door.catalog))
        door.catalog = catalog
    server.stop(None).wait()


async def _serve_by_coroutines(port: int, store_url: str, deadline_s: float) -> None:
    redis = AsyncRedis.from_url(store_url, max_connections=64, socket_timeout=None)
    bucket_bits, catalog = await _read(store_url)
    door, lookups = Door(catalog), Lookups(bucket_bits)

    async def get_mutations(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        asked = door.ask(message)
        if isinstance(asked, Asked):
            async with asyncio.timeout(deadline_s):
                found = await lookups.found(redis, asked.ids)
            asked = door.answer(asked, found)
        await context.send_initial_metadata(asked.metadata)
        return asked.message

    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers([_handlers(get_mutations)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    while not stopped.is_set():
        door.catalog = await _newer(redis, door.catalog)
        try:
            await asyncio.wait_for(stopped.wait(), REFRESH_S)
        except TimeoutError:
            continue
    await server.stop(None)


_OPTIONS = [("grpc.so_reuseport", 0)]


def _handlers(get_mutations: Callable[[Any, Any], Any | Awaitable[Any]]) -> Any:
    method = grpc.unary_unary_rpc_method_handler(
        get_mutations,
        request_deserializer=artf.RTBRequest.FromString,
        response_serializer=artf.RTBResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"GetMutations": method})


async def _read(store_url: str) -> tuple[int, Catalog]:
    async with AsyncRedis.from_url(store_url) as redis:
        meta = await read_meta(redis)
        return meta.bucket_bits, Catalog(await read_catalog(redis))


async def _read_if_newer(store_url: str, catalog: Catalog) -> Catalog:
    async with AsyncRedis.from_url(store_url) as redis:
        return await _newer(redis, catalog)


async def _newer(redis: AsyncRedis, catalog: Catalog) -> Catalog:
    if await read_version(redis) == catalog.version:
        return catalog
    return Catalog(await read_catalog(redis))


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--store-url", required=True)
    parser.add_argument("--deadline-ms", type=float, default=20.0)
    parser.add_argument("--aio", action="store_true", help="coroutines instead of threads")
    options = parser.parse_args()
    of_deadline = (options.port, options.store_url, options.deadline_ms / 1_000)
    if options.aio:
        uvloop.run(_serve_by_coroutines(*of_deadline))
    else:
        _serve_by_threads(*of_deadline)


if __name__ == "__main__":
    main()
