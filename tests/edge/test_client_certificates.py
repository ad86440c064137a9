"""Recipients that need a client's certificate, met by clients with real ones over TLS."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from redis.asyncio import Redis

from segments.model.catalog import RecipientEntry
from segments.runtime import client_certificates
from tests.edge.client import Client, connected, request
from tests.edge.processes import start
from tests.edge.small_store import (
    MEMBER,
    Service,
    bid_request,
    eventually,
    publish_recipients,
    serving,
)
from tests.engines import Engine
from tests.tls import TestCa

TOKEN = "rtbr_ours"
BOUND = ("dns:bidder.example", "subject:CN=bidder,O=Example", "uri:spiffe://example/bidder")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa.in_folder(tmp_path_factory.mktemp("tls"))


def recipient(number: int, name: str, *, is_bound: bool, token: str = "") -> RecipientEntry:
    return RecipientEntry(
        number,
        name,
        is_active=True,
        partner_ids=(1,),
        tokens=(sha256(token.encode()).hexdigest(),) if token else None,
        certificates=BOUND if is_bound else None,
    )


ENTRIES = (
    recipient(1, "dsp-a", is_bound=True),
    recipient(2, "dsp-both", is_bound=True, token=TOKEN),
    recipient(3, "dsp-open", is_bound=False),
)


@asynccontextmanager
async def guarded(
    valkey: Engine, ca: TestCa, *, asks: bool = True, **settings: Any
) -> AsyncIterator[tuple[Service, Redis]]:
    client_ca = ca.bundle if asks else None
    async with (
        Redis.from_url(valkey.url) as redis,
        serving(
            valkey.url, tls_cert=ca.cert, tls_key=ca.key, tls_client_ca=client_ca, **settings
        ) as service,
    ):
        await publish_recipients(redis, 2, *ENTRIES)
        await eventually(lambda: service.worker.bids.catalog.version == 2)
        yield service, redis


async def outcome(client: Client, name: str, **headers: str) -> tuple[int, str]:
    answer = await client.post(bid_request(), f"/openrtb2/enrich/{name}", **headers)
    assert not answer.body or answer.status == 200
    assert answer.headers.get("www-authenticate") == ("Bearer" if answer.status == 401 else None)
    return answer.status, answer.headers.get("x-enrich-error", answer.outcome)


SERVED = (200, "enriched")
OTHER = (403, "other_certificate")


def written(name: str) -> x509.DNSName:
    """A host name that no check of the library's own looks at."""
    return x509.DNSName._init_without_validation(name)


@pytest.mark.parametrize(
    ("alternatives", "subject", "due"),
    [
        pytest.param([x509.DNSName("bidder.example")], "", SERVED, id="the host"),
        pytest.param([x509.DNSName("BIDDER.example")], "CN=x", SERVED, id="in capitals"),
        pytest.param(
            [x509.DNSName("a.example"), x509.DNSName("bidder.example")], "", SERVED, id="of two"
        ),
        pytest.param(
            [x509.UniformResourceIdentifier("spiffe://example/bidder")], "", SERVED, id="the URI"
        ),
        pytest.param([], "CN=bidder,O=Example", SERVED, id="the subject"),
        pytest.param([x509.DNSName("other.example")], "", OTHER, id="another host"),
        pytest.param([x509.DNSName("*.example")], "", OTHER, id="a wildcard"),
        pytest.param([x509.DNSName("a.bidder.example")], "", OTHER, id="a host below it"),
        pytest.param([x509.DNSName("bidder.example\0.evil.example")], "", OTHER, id="a zero in it"),
        pytest.param([x509.RFC822Name("bidder.example")], "", OTHER, id="as an e-mail address"),
        pytest.param([x509.UniformResourceIdentifier("bidder.example")], "", OTHER, id="as a URI"),
        pytest.param([], "CN=bidder.example", OTHER, id="as a common name"),
        pytest.param([], "CN=bidder", OTHER, id="a part of the subject"),
        pytest.param([], "CN=bidder,O=Example,C=DE", OTHER, id="more than the subject"),
        pytest.param([], r"CN=bidder\,O=Example", OTHER, id="a comma in a value"),
        pytest.param([], "", OTHER, id="no name"),
    ],
)
async def test_client_is_served_by_a_name_of_its_certificate_whole_and_of_its_kind(
    valkey: Engine, ca: TestCa, alternatives: list[x509.GeneralName], subject: str,
    due: tuple[int, str],
) -> None:  # fmt: skip
    certificate = ca.certificate("client", *alternatives, subject=subject)

    async with (
        guarded(valkey, ca) as (service, _),
        connected(service.port, ca.client(certificate)) as client,
    ):
        assert [await outcome(client, "dsp-a") for _ in range(2)] == [due, due]
        assert await outcome(client, "dsp-open") == SERVED


async def test_client_without_a_certificate_is_401_where_one_is_needed_and_served_elsewhere(
    valkey: Engine, ca: TestCa
) -> None:
    async with (
        guarded(valkey, ca) as (service, _),
        connected(service.port, ca.client()) as client,
    ):
        assert await outcome(client, "dsp-a") == (401, "no_certificate")
        assert await outcome(client, "dsp-open") == SERVED


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(request(bid_request(), "/curation/dsp-a"), id="a SegmentRequest"),
        pytest.param(
            request(b"", f"/v2/targeting?t=dsp-a&id=e%3A{MEMBER}", "GET"), id="a query of a module"
        ),
    ],
)
async def test_what_else_is_asked_needs_the_certificate_too(
    valkey: Engine, ca: TestCa, asked: bytes
) -> None:
    certificate = ca.certificate("client", x509.DNSName("bidder.example"))
    settings: dict[str, Any] = {
        "curation_gdpr_when_unsaid": False,
        "targeting": True,
        "targeting_recipients": ("dsp-a",),
        "targeting_gdpr_when_unsaid": False,
    }

    async with guarded(valkey, ca, **settings) as (service, _):
        answers = []
        for shown in (certificate, None):
            async with connected(service.port, ca.client(shown)) as client:
                client.send(asked)
                answers.append(await client.answer())

    assert answers[0].outcome == "enriched"
    assert (answers[1].status, answers[1].error) == (401, "no_certificate")


async def test_both_are_needed_where_both_are_asked_for(valkey: Engine, ca: TestCa) -> None:
    certificate = ca.certificate("ours", x509.DNSName("bidder.example"))
    ours, none = {"Authorization": f"Bearer {TOKEN}"}, dict[str, str]()

    async with guarded(valkey, ca) as (service, _):
        async with connected(service.port, ca.client(certificate)) as shown:
            by_certificate = [await outcome(shown, "dsp-both", **said) for said in (ours, none)]
        async with connected(service.port, ca.client()) as hidden:
            by_token = await outcome(hidden, "dsp-both", **ours)

    assert by_certificate == [SERVED, (401, "no_token")]
    assert by_token == (401, "no_certificate")


async def test_names_are_read_once_for_a_connection_and_the_binding_for_each_request(
    valkey: Engine, ca: TestCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read = client_certificates.names_of

    def counted(der: bytes) -> frozenset[str]:
        nonlocal reads
        reads += 1
        return read(der)

    monkeypatch.setattr(client_certificates, "names_of", counted)
    certificate = ca.certificate("ours", x509.DNSName("bidder.example"))
    async with (
        guarded(valkey, ca) as (service, redis),
        connected(service.port, ca.client(certificate)) as client,
    ):
        before = [await outcome(client, "dsp-a") for _ in range(3)]
        changed = RecipientEntry(1, "dsp-a", is_active=True, certificates=("dns:new.example",))
        await publish_recipients(redis, 3, changed)
        await eventually(lambda: service.worker.bids.catalog.version == 3)
        after = await outcome(client, "dsp-a")

    assert (before, after) == ([SERVED] * 3, OTHER)
    assert reads == 1


@pytest.mark.parametrize("kind", ["of another authority", "a server's", "expired", "not yet"])
async def test_certificate_that_is_none_for_us_is_hung_up_on(
    valkey: Engine, ca: TestCa, tmp_path: Path, kind: str
) -> None:
    name = x509.DNSName("bidder.example")
    match kind:
        case "of another authority":
            certificate = TestCa.in_folder(tmp_path).certificate("theirs", name)
        case "a server's":
            certificate = ca.certificate("web", name, usage=ExtendedKeyUsageOID.SERVER_AUTH)
        case "expired":
            certificate = ca.certificate("old", name, days=(-2, -1))
        case _:
            certificate = ca.certificate("new", name, days=(1, 2))

    async with guarded(valkey, ca) as (service, _):
        # TLS 1.3: the client believes that it is connected until it reads.
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            async with connected(service.port, ca.client(certificate)) as client:
                await client.post(bid_request(), "/openrtb2/enrich/dsp-open")
        async with connected(service.port, ca.client()) as next_one:
            assert await outcome(next_one, "dsp-open") == SERVED


async def test_recipient_that_needs_one_is_closed_and_an_error_in_the_log_where_none_is_asked_for(
    valkey: Engine, ca: TestCa, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = ca.certificate("ours", x509.DNSName("bidder.example"))

    async with guarded(valkey, ca, asks=False) as (service, redis):
        async with connected(service.port, ca.client(certificate)) as client:
            refused = await outcome(client, "dsp-a")
        await publish_recipients(redis, 3, *ENTRIES)
        await eventually(lambda: service.worker.bids.catalog.version == 3)

    assert refused == (401, "no_certificate")
    said = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 1
    assert "RTB_TLS_CLIENT_CA is not set" in said[0]


async def test_authority_without_tls_is_one_line_and_no_service(ca: TestCa) -> None:
    process = await start(tls_client_ca=ca.bundle)
    output, _ = await process.communicate()

    assert process.returncode == 2
    assert output.decode() == "RTB_TLS_CERT: not set, while RTB_TLS_CLIENT_CA is\n"


async def test_authority_that_is_none_is_one_line_and_no_service(
    valkey: Engine, ca: TestCa, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    files = {"tls_cert": ca.cert, "tls_key": ca.key, "tls_client_ca": tmp_path / "ca.pem"}

    process = await start(port=0, admin_port=0, redis_url=valkey.url, **files)
    output, _ = await process.communicate()

    assert process.returncode == 1
    assert output.decode() == "rtb: RTB_TLS_CLIENT_CA: not certificates in PEM\n"
