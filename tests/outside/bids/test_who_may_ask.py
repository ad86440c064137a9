"""
How others let the wrong one in, or kept the right one out, by public reports, tried on ours.

Each test names the report by its URL.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from redis.asyncio import Redis

from segments.model.catalog import RecipientEntry
from tests.edge.client import ENRICH, WITHIN_S, Client, connected, request
from tests.edge.small_store import (
    Service,
    bid_request,
    eventually,
    publish_recipients,
    serving,
)
from tests.engines import Engine
from tests.tls import TestCa


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


@asynccontextmanager
async def _serving(
    valkey: Engine, *entries: RecipientEntry, **settings: Any
) -> AsyncIterator[Service]:
    async with (
        Redis.from_url(valkey.url) as redis,
        serving(valkey.url, **settings) as service,
    ):
        await publish_recipients(redis, 2, *entries)
        await eventually(lambda: service.worker.bids.catalog.version == 2)
        yield service


@asynccontextmanager
async def _asked_for_a_token(valkey: Engine) -> AsyncIterator[Client]:
    ours = RecipientEntry(1, "dsp-a", True, partner_ids=(1,), tokens=(_digest("token-abc"),))
    theirs = RecipientEntry(2, "dsp-b", True, partner_ids=(1,), tokens=(_digest("theirs"),))
    # An empty one among the hashes, as a command that was fed nothing would have left it.
    none = RecipientEntry(3, "dsp-c", True, partner_ids=(1,), tokens=(_digest(""),))
    async with (
        _serving(valkey, ours, theirs, none) as service,
        connected(service.port) as client,
    ):
        yield client


@pytest.mark.parametrize("said", ["Bearer", "Bearer ", "Bearer  \t ", ""])
async def test_empty_token_is_none(valkey: Engine, said: str) -> None:
    """
    https://github.com/ahopkins/sanic-jwt/issues/143: `Bearer ` was valid; and
    https://github.com/bug-ops/zeph/issues/6268: it was equal to a secret that was empty, too.
    """
    async with _asked_for_a_token(valkey) as client:
        answers = [
            await client.post(bid_request(), f"/openrtb2/enrich/{name}", Authorization=said)
            for name in ("dsp-a", "dsp-c")
        ]

    assert [(answer.status, answer.error) for answer in answers] == [(401, "no_token")] * 2


async def test_token_that_a_proxy_has_added_to_ours_is_not_half_believed(valkey: Engine) -> None:
    """
    https://github.com/oauth2-proxy/oauth2-proxy/issues/2204: `Bearer abc,Bearer abc` arrived; and
    https://github.com/hail-is/hail/pull/5369: the first of two was taken for the one.
    """
    async with _asked_for_a_token(valkey) as client:
        doubled = await client.post(
            bid_request(), ENRICH, Authorization="Bearer token-abc,Bearer token-abc"
        )
        first = await client.post(bid_request(), ENRICH, Authorization="Bearer token-abc, x=1")

    assert [doubled.status, first.status] == [401, 401]


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
async def test_scheme_is_bearer_in_any_case(valkey: Engine, scheme: str) -> None:
    """https://github.com/oauth-wg/oauth-v2-1/issues/166: whose proxy spells it so was 401."""
    async with _asked_for_a_token(valkey) as client:
        answer = await client.post(bid_request(), ENRICH, Authorization=f"{scheme} token-abc")

    assert answer.outcome == "enriched"


async def test_good_token_and_the_name_of_another_in_a_header_are_the_tokens_own(
    valkey: Engine,
) -> None:
    """
    https://github.com/bigcapitalhq/bigcapital/issues/990: whoever had any account was, by a
    header, any tenant. The path alone says which recipient, and the token must be that one's.
    """
    headers = {"Authorization": "Bearer theirs", "Organization_Id": "dsp-b"}
    async with _asked_for_a_token(valkey) as client:
        answer = await client.post(bid_request(), ENRICH, **headers)

    assert (answer.status, answer.error) == (403, "other_token")


@pytest.mark.parametrize(
    "path", ["//openrtb2/enrich/dsp-a", "/openrtb2/enrich/./dsp-a", "/openrtb2/enrich/x/../dsp-a",
             "/openrtb2/enrich%2Fdsp-a", "/openrtb2/enrich/dsp%2da", "/OPENRTB2/enrich/dsp-a"],
)  # fmt: skip
async def test_another_spelling_of_the_path_is_no_way_round_the_token(
    valkey: Engine, path: str
) -> None:
    """https://github.com/envoyproxy/envoy/security/advisories/GHSA-4987-27fx-x6cf: `%2F` was."""
    async with _asked_for_a_token(valkey) as client:
        answer = await client.post(bid_request(), path)

    assert answer.status in (401, 404)


class _Asked(NamedTuple):
    """What came of one connection."""

    status: bytes
    session: ssl.SSLSession | None
    is_resumed: bool


def _ask(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None) -> _Asked:
    with (
        socket.create_connection(("127.0.0.1", port), WITHIN_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as tls,
    ):
        tls.sendall(request(bid_request(), ENRICH))
        status = tls.recv(4096).split()[1]
        return _Asked(status, tls.session, bool(tls.session_reused))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_resumed_session_is_its_clients_own(
    valkey: Engine, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """
    https://github.com/envoyproxy/envoy/issues/21235: the certificate was missing in a resumed
    session; and https://github.com/randombit/botan/issues/5818: a session that was begun without
    one passed for a client's that had shown it.
    """
    ca = TestCa.in_folder(tmp_path)
    certificate = ca.certificate("bidder", x509.DNSName("bidder.example"))
    bound = RecipientEntry(1, "dsp-a", True, partner_ids=(1,), certificates=("dns:bidder.example",))
    shows, hides = ca.client(certificate), ca.client()
    for context in (shows, hides):
        context.maximum_version = version

    async with _serving(
        valkey, bound, tls_cert=ca.cert, tls_key=ca.key, tls_client_ca=ca.bundle
    ) as service:
        known = await asyncio.to_thread(_ask, shows, service.port, None)
        again = await asyncio.to_thread(_ask, shows, service.port, known.session)
        stranger = await asyncio.to_thread(_ask, hides, service.port, None)
        still = await asyncio.to_thread(_ask, hides, service.port, stranger.session)

    assert [known.status, again.status] == [b"200", b"200"]
    assert again.is_resumed, "or there is nothing to see here"
    assert [stranger.status, still.status] == [b"401", b"401"]
