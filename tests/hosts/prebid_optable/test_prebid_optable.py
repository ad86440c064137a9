"""
A stock Prebid Server (Java), by its module `optable-targeting`, over sockets.

The host's own text is the module's source: github.com/prebid/prebid-server-java,
extra/modules/optable-targeting; `tests.hosts.prebid_optable.module` speaks as it does.
"""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from rtb.outcome import OutcomeHeader
from rtb.server.bids import Route
from segments.store.servers.connection import connect
from tests.edge.client import Answer, connected, request
from tests.edge.http2_client import connected2
from tests.edge.processes import listening
from tests.edge.small_store import (
    MEMBER,
    OPTED_OUT,
    SHOP_DATA,
    STRANGER,
    eventually,
    furnish,
    publish_recipients,
    serving,
    started,
)
from tests.edge.test_access import ENTRIES
from tests.engines import Engine
from tests.hosts.prebid_optable.module import Account, Failed, Privacy, enriched, request_of
from tests.rtb.consent.strings import gpp_string, tc_string, us_section

SETTINGS: dict[str, Any] = {
    "targeting": True,
    "targeting_recipients": ("dsp-a", "dsp-locked"),
    "targeting_gdpr_when_unsaid": False,
    "targeting_prefixes": {"c": "liveintent.com"},
}
NO_PRIVACY = Privacy()
PERMITTING = gpp_string({7: us_section(7), 8: us_section(8)})
CALIFORNIA_SAYS_NO = gpp_string({7: us_section(7), 8: us_section(8, SaleOptOut=1)})
NOTHING = {"audience": [], "ortb2": {"user": {"data": [], "eids": []}}}


def bid_request(digest: str = MEMBER, **user: Any) -> dict[str, Any]:
    """Make what the server holds of an auction: a hashed address, addresses of the network."""
    return {
        "id": "r1",
        "user": {"ext": {"optable": {"email": digest}}, **user},
        "device": {"ua": "Mozilla/5.0 (X11)", "ip": "203.0.113.7", "ipv6": "2001:db8::1"},
    }


async def ask(port: int, data: bytes) -> Answer:
    async with connected(port) as client:
        client.send(data)
        return await client.answer()


async def test_started_service_enriches_what_a_stock_prebid_server_asks(valkey: Engine) -> None:
    async with connect(valkey.url) as redis:
        await furnish(redis)
    settings = {**SETTINGS, "targeting_recipients": "dsp-a"}
    settings["targeting_prefixes"] = json.dumps(settings["targeting_prefixes"])
    theirs = {"id": "other.example", "segment": [{"id": "9"}]}
    ours = {"id": "shop", "segment": [{"id": "102"}]}
    by_eid = {
        "user": {
            "eids": [{"source": "liveintent.com", "uids": [{"id": MEMBER}]}],
            "data": [theirs, ours],
        }
    }

    async with listening(redis_url=valkey.url, **settings) as listener:
        await eventually(listener.is_ready)
        by_email = await ask(listener.port, request_of(bid_request(), Account(), NO_PRIVACY))
        by_ppid = await ask(listener.port, request_of(by_eid, Account(), NO_PRIVACY))
        no = await ask(listener.port, request_of(bid_request(OPTED_OUT), Account(), NO_PRIVACY))
        counted = await listener.metric(
            'rtb_requests_total{outcome="opted_out",reason="",recipient="dsp-a"}'
        )

    assert enriched(bid_request(), by_email)["user"]["data"] == [SHOP_DATA]
    assert enriched(by_eid, by_ppid)["user"]["data"] == [
        theirs,
        {"id": "shop", "segment": [{"id": "102"}, {"id": "101"}]},
    ]
    assert enriched(bid_request(OPTED_OUT), no)["user"]["data"] == []
    assert (no.status, no.outcome, counted) == (200, "opted_out", 1)


_CASES = [
    pytest.param(NO_PRIVACY, True, id="outside of the EU and of the US"),
    pytest.param(Privacy(tc_string(), True), True, id="consent in the EU"),
    pytest.param(Privacy(tc_string(purposes=[1]), True), False, id="no consent in the EU"),
    pytest.param(Privacy(tc_string(purposes=[1]), False), False, id="no consent, no scope"),
    pytest.param(Privacy(gpp=PERMITTING, gpp_sid=[7, 8]), True, id="GPP"),
    pytest.param(Privacy(gpp=PERMITTING), True, id="GPP without sections named"),
    pytest.param(Privacy(gpp=CALIFORNIA_SAYS_NO, gpp_sid=[7, 8]), False, id="GPP, no of one"),
    pytest.param(Privacy(gpp=CALIFORNIA_SAYS_NO), False, id="GPP, no, none named"),
]


@pytest.mark.parametrize(
    "endpoint", ["/v2/targeting?t={TENANT}&o={ORIGIN}", "/v2/targeting&t={TENANT}"]
)
@pytest.mark.parametrize("prints_optional", [True, False], ids=["Optional[7]", "7,8"])
async def test_consent_is_kept_in_every_way_that_the_module_may_say_it(
    valkey: Engine, endpoint: str, prints_optional: bool
) -> None:
    account = Account(endpoint=endpoint)

    async with serving(valkey.url, **SETTINGS) as service, connected(service.port) as client:
        shown = []
        for case in _CASES:
            privacy, _ = case.values
            client.send(
                request_of(bid_request(), account, privacy, prints_optional=prints_optional)  # type: ignore[arg-type]
            )
            shown.append(enriched(bid_request(), await client.answer())["user"]["data"] != [])

    assert dict(zip([c.id for c in _CASES], shown, strict=True)) == {
        c.id: c.values[1] for c in _CASES
    }


async def test_every_question_that_is_let_in_gets_200_with_a_body(valkey: Engine) -> None:
    """What is not is logged as a failure, and kept as one by a circuit breaker's cache."""
    questions = [
        request_of(bid_request(STRANGER), Account(), NO_PRIVACY),
        request_of({"device": {"ip": "203.0.113.7"}}, Account(), NO_PRIVACY),
        request_of(bid_request("no hash"), Account(timeout=None), NO_PRIVACY),
        b"GET /v2/targeting?t=dsp-a&gdpr=%FF&id=%FF HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v2/targeting?&&t=dsp-a&=&id HTTP/1.1\r\nHost: a\r\nContent-Encoding: br\r\n\r\n",
        b"GET /v2/targeting?t=dsp-a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
    ]

    async with serving(valkey.url, **SETTINGS) as service, connected(service.port) as client:
        client.send(b"".join(questions))
        answers = [await client.answer() for _ in questions]
    async with started("redis://127.0.0.1:1", **SETTINGS) as service:
        down = await ask(service.port, request_of(bid_request(), Account(), NO_PRIVACY))

    assert down.outcome == "store_down"
    assert [answer.outcome for answer in answers] == ["no_match", *["no_identity"] * 5]
    for answer in (*answers, down):
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert json.loads(answer.body) == NOTHING


@pytest.mark.parametrize(
    ("account", "status", "error"),
    [
        pytest.param(Account(api_key="ours-new"), 200, None, id="its token"),
        pytest.param(Account(), 401, "no_token", id="no token"),
        pytest.param(Account(api_key="theirs"), 403, "other_token", id="another's"),
        pytest.param(
            Account(tenant="dsp-b", api_key="theirs"), 404, "unknown_recipient", id="not let in"
        ),
        pytest.param(Account(tenant="nobody"), 404, "unknown_recipient", id="nobody"),
        pytest.param(Account(tenant=""), 404, "unknown_recipient", id="no name"),
        pytest.param(
            Account(endpoint="/v2/targeting/dsp-a?x"), 404, "unknown_path", id="as of other forms"
        ),
    ],
)
async def test_tenant_is_a_recipient_that_is_let_in_and_the_key_its_token(
    valkey: Engine, account: Account, status: int, error: str | None
) -> None:
    async with (
        Redis.from_url(valkey.url) as redis,
        serving(valkey.url, **SETTINGS) as service,
        connected(service.port) as client,
    ):
        await publish_recipients(redis, 2, *ENTRIES)
        await eventually(lambda: service.worker.bids.catalog.version == 2)
        client.send(request_of(bid_request(), account, NO_PRIVACY) * 2)
        answers = [await client.answer() for _ in range(2)]

    for answer in answers:
        assert (answer.status, answer.headers.get("x-enrich-error")) == (status, error)
    if status != 200:
        with pytest.raises(Failed):
            enriched(bid_request(), answers[0])


async def test_header_says_no_more_than_the_operator_wants(valkey: Engine) -> None:
    settings = {**SETTINGS, "outcome_header": OutcomeHeader.COARSE, "debug_header": True}
    debug = b"X-Enrich-Debug: 1\r\nhost:"
    refused = request_of(bid_request(), Account(), Privacy(tc_string(purposes=[1]), True))

    async with serving(valkey.url, **settings) as service, connected(service.port) as client:
        outcomes = []
        for digest in (MEMBER, OPTED_OUT, STRANGER):
            client.send(request_of(bid_request(digest), Account(), NO_PRIVACY))
            outcomes.append((await client.answer()).outcome)
        client.send(refused.replace(b"host:", debug))
        told = await client.answer()

    assert outcomes == ["enriched", "passed", "passed"]
    assert (told.outcome, told.headers["x-enrich-reason"]) == ("passed", "tcf_no_purpose")


async def test_path_is_not_there_unless_the_operator_wants_it(valkey: Engine) -> None:
    question = request_of(bid_request(), Account(), NO_PRIVACY)

    async with serving(valkey.url) as service:
        answer = await ask(service.port, question)

    assert (answer.status, answer.error) == (404, "unknown_path")


async def test_recipient_that_is_let_in_and_not_known_is_said_in_the_log(
    valkey: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(valkey.url, **SETTINGS):
        said = [record.message for record in caplog.records if record.levelname == "ERROR"]

    assert len(said) == 1, "dsp-a is known"
    assert "RTB_TARGETING_RECIPIENTS" in said[0]
    assert "dsp-locked" in said[0]


async def test_another_method_is_told_the_right_one(valkey: Engine) -> None:
    async with serving(valkey.url, **SETTINGS) as service, connected(service.port) as client:
        answer = await client.post(b"{}", "/v2/targeting?t=dsp-a")

    assert (answer.status, answer.error, answer.headers["allow"]) == (405, "not_get", "GET")


@pytest.mark.parametrize("in_pieces", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        pytest.param("/v2/targeting?t=dsp-a", 40_000, 200, id="long"),
        pytest.param("/v2/targeting?t=dsp-a", 50_000, 431, id="too long"),
        pytest.param("/openrtb2/enrich/dsp-a", 17_000, 431, id="of another path"),
    ],
)
async def test_question_may_be_longer_than_other_heads(
    valkey: Engine, path: str, length: int, status: int, in_pieces: bool
) -> None:
    url = f"{path}{'&' if '?' in path else '?'}id=e%3A{MEMBER}&id5_signature="
    data = request(b"", url + "x" * (length - len(url)), "GET")

    async with serving(valkey.url, **SETTINGS) as service, connected(service.port) as client:
        if in_pieces:
            for start in range(0, len(data), 4_000):
                client.send(data[start : start + 4_000])
                await client.writer.drain()
                await asyncio.sleep(0)
        else:
            client.send(data)
        answer = await client.answer()

    assert answer.status == status
    assert answer.headers.get("x-enrich-error") == (None if status == 200 else "head_too_large")


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        pytest.param("/v2/targeting?t=dsp-a", 100, 200, id="short"),
        pytest.param("/v2/targeting?t=dsp-a", 40_000, 200, id="long"),
        pytest.param("/v2/targeting?t=dsp-a", 50_000, 431, id="too long"),
        pytest.param("/openrtb2/enrich/dsp-a", 17_000, 431, id="of another path"),
    ],
)
async def test_question_is_answered_over_http2_too(
    valkey: Engine, path: str, length: int, status: int
) -> None:
    url = f"{path}{'&' if '?' in path else '?'}id=e%3A{MEMBER}&id5_signature={'x' * length}"

    async with serving(valkey.url, **SETTINGS) as service, connected2(service.port) as client:
        stream_id = client.send_head(url, method="GET", ends=True)
        client.flush()
        answer = await client.answer(stream_id)

    assert answer.status == status
    if status == 200:
        assert json.loads(answer.body)["ortb2"]["user"]["data"] == [SHOP_DATA]


async def test_questions_are_nobodys_routes_and_push_out_no_others(valkey: Engine) -> None:
    """Each URL is another, and a person's: kept by their URLs, they would fill the table."""
    async with serving(valkey.url, **SETTINGS) as service, connected(service.port) as client:
        for digest in (MEMBER, OPTED_OUT, STRANGER):
            client.send(request_of(bid_request(digest), Account(), NO_PRIVACY))
            await client.answer()
        routes = list(service.worker.bids.routes)

    assert routes == [b"/v2/targeting dsp-a"]


async def test_half_of_the_time_that_is_said_is_ours(valkey: Engine) -> None:
    async with serving(valkey.url, **SETTINGS) as service:
        route = service.worker.bids.route_of(b"/v2/targeting?t=dsp-a")

    assert isinstance(route, Route)
    assert route.tmax_share == 0.5


@pytest.mark.skipif(
    shutil.which("java") is None, reason="there is no java: openjdk-17-jdk-headless, in Debian"
)
async def test_javas_own_client_is_answered(valkey: Engine) -> None:
    """It offers h2c with its first request, and leaves brackets in a query as they are."""
    async with serving(valkey.url, **SETTINGS) as service:
        program = await asyncio.create_subprocess_exec(
            *(
                "java",
                "-Xshare:auto",
                "-XX:TieredStopAtLevel=1",
                str(Path(__file__).with_name("Ask.java")),
            ),
            *(str(service.port), "dsp-a", MEMBER, PERMITTING, "7"),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await program.communicate()

    lines = said.decode().splitlines()
    assert [line[:3] for line in lines] == ["200"] * 2
    assert [json.loads(line[4:])["ortb2"]["user"]["data"] for line in lines] == [[SHOP_DATA]] * 2
