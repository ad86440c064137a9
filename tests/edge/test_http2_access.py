"""Recipients that need a token or a certificate, asked over HTTP/2 and by calls of gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from cryptography import x509
from redis.asyncio import Redis

from tests.artf.host import Host, Replied
from tests.edge.http2_client import connected2, serving_by
from tests.edge.http2_engines import ENGINES
from tests.edge.small_store import Service, bid_request, eventually, publish_recipients
from tests.edge.test_access import ENTRIES as WITH_TOKENS
from tests.edge.test_calls import call_of
from tests.edge.test_client_certificates import ENTRIES as WITH_CERTIFICATES
from tests.edge.test_client_certificates import TOKEN
from tests.engines import Engine
from tests.tls import TestCa


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa.in_folder(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
def engine(request: pytest.FixtureRequest) -> Any:
    return request.param


@asynccontextmanager
async def guarded(
    engine: Any, valkey: Engine, entries: Any, **settings: Any
) -> AsyncIterator[tuple[Service, Redis]]:
    async with (
        Redis.from_url(valkey.url) as redis,
        serving_by(engine, valkey, **settings) as service,
    ):
        await publish_recipients(redis, 2, *entries)
        await eventually(lambda: service.worker.bids.catalog.version == 2)
        yield service, redis


SHOWN = [
    ({}, 401, "no_token"),
    ({"authorization": "Bearer nobodys"}, 401, "unknown_token"),
    ({"authorization": "Bearer theirs"}, 403, "other_token"),
    ({"authorization": "bearer ours-new"}, 200, ""),
    ({"authorization": "Bearer ours-old"}, 200, ""),
]


async def test_token_is_needed_over_http_2_and_refusals_cost_no_other_stream(
    engine: Any, valkey: Engine
) -> None:
    async with (
        guarded(engine, valkey, WITH_TOKENS) as (service, _),
        connected2(service.port) as client,
    ):
        streams = [client.ask(bid_request(), **shown) for shown, *_ in SHOWN for _ in range(3)]
        answers = [await client.answer(stream) for stream in streams]

    due = [(status, error) for _, status, error in SHOWN for _ in range(3)]
    assert [(a.status, a.headers.get("x-enrich-error", "")) for a in answers] == due
    for answer in answers:
        challenge = "Bearer" if answer.status == 401 else None
        assert answer.headers.get("www-authenticate") == challenge
        assert bool(answer.body) == (answer.status == 200)


@pytest.mark.parametrize("tokens", [("ours-new", "nobodys"), ("nobodys", "ours-new")])
async def test_two_fields_are_no_token_over_http_2(
    engine: Any, valkey: Engine, tokens: tuple[str, str]
) -> None:
    async with (
        guarded(engine, valkey, WITH_TOKENS) as (service, _),
        connected2(service.port) as client,
    ):
        fields = [("authorization", f"Bearer {token}") for token in tokens]
        first = client.ask(bid_request(), authorization="Bearer ours-new")
        answer = await client.answer(first)
        stream = client.send_head(extra=fields)
        client.send_body(stream, bid_request())
        client.flush()
        refused = await client.answer(stream)

    assert answer.status == 200
    assert refused.status == 401


async def test_token_that_is_revoked_is_so_on_a_connection_that_is_open(
    engine: Any, valkey: Engine
) -> None:
    """Its head is one that the worker has learnt."""
    async with (
        guarded(engine, valkey, WITH_TOKENS) as (service, redis),
        connected2(service.port) as client,
    ):
        shown = {"authorization": "Bearer ours-new"}
        before = [await client.post(bid_request(), **shown) for _ in range(2)]
        [locked] = [entry for entry in WITH_TOKENS if entry.name == "dsp-locked"]
        await publish_recipients(redis, 3, msgspec.structs.replace(locked, name="dsp-a"))
        await eventually(lambda: service.worker.bids.catalog.version == 3)
        after = await client.post(bid_request(), **shown)

    assert [answer.status for answer in before] == [200, 200]
    assert after.status == 401


def certified(ca: TestCa, name: str) -> Path:
    return ca.certificate(name.split(".", maxsplit=1)[0], x509.DNSName(name))


async def test_certificate_is_needed_over_http_2(engine: Any, valkey: Engine, ca: TestCa) -> None:
    found = []
    settings = {"tls_cert": ca.cert, "tls_key": ca.key, "tls_client_ca": ca.bundle}
    async with guarded(engine, valkey, WITH_CERTIFICATES, **settings) as (service, _):
        for shown in (certified(ca, "bidder.example"), certified(ca, "other.example"), None):
            tls = ca.client(shown)
            tls.set_alpn_protocols(["h2"])
            async with connected2(service.port, tls) as client:
                for path in ("/openrtb2/enrich/dsp-a", "/openrtb2/enrich/dsp-open"):
                    answer = await client.post(bid_request(), path)
                    found.append((answer.status, answer.headers.get("x-enrich-error", "")))

    served = (200, "")
    assert found == [
        *(served, served),
        *((403, "other_certificate"), served),
        *((401, "no_certificate"), served),
    ]


def secured(ca: TestCa, port: int, shown: Path | None) -> grpc.Channel:
    pem = None if shown is None else shown.read_bytes()
    trust = grpc.ssl_channel_credentials(ca.bundle.read_bytes(), pem, pem)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    return grpc.secure_channel(f"localhost:{port}", trust, options)


def _called(host: Host, message: bytes, metadata: dict[str, Any]) -> Replied:
    return host.call(message, **metadata)


@pytest.mark.parametrize("is_by_originator", [False, True])
async def test_call_needs_certificate_and_token(
    engine: Any, valkey: Engine, ca: TestCa, is_by_originator: bool
) -> None:
    """Statuses 7 and 16; whether the recipient is known before the message is read, or by it."""
    name = "dsp-both"
    settings: dict[str, Any] = {
        "artf_recipient": {"ssp": name} if is_by_originator else name,
        "tls_cert": ca.cert,
        "tls_key": ca.key,
        "tls_client_ca": ca.bundle,
    }
    ours, other = certified(ca, "bidder.example"), certified(ca, "other.example")
    token, wrong = {"authorization": f"Bearer {TOKEN}"}, {"authorization": "Bearer x"}
    cases: list[tuple[Path | None, dict[str, str], int, str]] = [
        (ours, token, 0, ""),
        (ours, {}, 16, "no_token"),
        (ours, wrong, 16, "unknown_token"),
        (other, token, 7, "other_certificate"),
        (None, token, 7, "no_certificate"),
    ]
    message = call_of(originator={"id": "ssp"})
    found = []
    async with guarded(engine, valkey, WITH_CERTIFICATES, **settings) as (service, _):
        for shown, metadata, *_ in cases:
            with secured(ca, service.port, shown) as channel:
                host = Host(channel)
                replied = await asyncio.to_thread(_called, host, message, metadata)
                error = {**replied.head, **replied.trailers}.get("x-enrich-error", "")
                found.append((replied.status, error, replied.ids))

    due = [(status, error, [["101", "102"]] if status == 0 else []) for *_, status, error in cases]
    assert found == due
