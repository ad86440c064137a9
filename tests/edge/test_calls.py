"""Calls of gRPC, by gRPC's own client over sockets: what is answered, with which status."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from loadtest.artf.messages import rtb_request
from rtb.server.extra_headers import age_line_of
from rtb.server.metrics.layout import REFUSED, Refusal
from segments.model.catalog import RecipientEntry
from segments.store.servers.connection import connect
from tests.artf.host import DOCUMENT, HEALTH, SERVICES, Host, Replied, hosting
from tests.edge.small_store import (
    MEMBER,
    OPTED_OUT,
    STRANGER,
    Service,
    eventually,
    publish_recipients,
    serving,
)
from tests.edge.test_access import ENTRIES
from tests.engines import Engine

DSP: dict[str, Any] = {"artf_recipient": "dsp-a"}


def bid(digest: str | None = MEMBER, **members: Any) -> dict[str, Any]:
    eids = [] if digest is None else [{"source": "liveintent.com", "uids": [{"id": digest}]}]
    return {"id": "b1", "imp": [{"id": "1"}], "user": {"eids": eids}, **members}


def call_of(digest: str | None = MEMBER, **members: Any) -> bytes:
    return rtb_request(bid(digest), id="r1", tmax=10_000, lifecycle=1, **members)


class Caller:
    """A host in a thread of its own, beside a worker that runs here."""

    def __init__(self, service: Service, host: Host) -> None:
        self.service = service
        self.host = host

    async def call(self, *args: Any, **kwargs: Any) -> Replied:
        return await asyncio.to_thread(self.host.call, *args, **kwargs)

    def refused(self, refusal: Refusal) -> int:
        return self.service.counters.cells[REFUSED + list(Refusal).index(refusal)]


@asynccontextmanager
async def calling(valkey: Engine, **settings: Any) -> AsyncIterator[Caller]:
    async with serving(valkey.url, **settings) as service:
        with hosting(service.port) as host:
            yield Caller(service, host)


@pytest.mark.parametrize(
    "path", [SERVICES, DOCUMENT, "/iabtechlab.x.RTBExtensionPoint/GetMutations"]
)
async def test_known_person_is_answered_with_a_mutation(valkey: Engine, path: str) -> None:
    async with calling(valkey, **DSP) as caller:
        replied = await caller.call(call_of(), path)

        assert (replied.status, replied.ids) == (0, [["101", "102"]])
        assert replied.response.id == "r1"
        assert replied.response.metadata.api_version == "1.0"
        assert replied.response.metadata.model_version == "1"
        assert replied.head["x-enrich-outcome"] == "enriched"
        assert caller.service.count("enriched") == 1


@pytest.mark.parametrize(
    ("message", "outcome", "reason"),
    [
        pytest.param(call_of(OPTED_OUT), "opted_out", "", id="opted out"),
        pytest.param(call_of(STRANGER), "no_match", "", id="no match"),
        pytest.param(call_of(None), "no_identity", "", id="no identity"),
        pytest.param(
            rtb_request(bid(regs={"coppa": 1}), id="r1"), "no_consent", "coppa", id="no consent"
        ),
        pytest.param(call_of(applicable_intents=[2, 3]), "no_match", "not_wanted", id="intents"),
        pytest.param(
            rtb_request(bid(), id="r1", lifecycle=2), "no_match", "not_wanted", id="lifecycle"
        ),
        pytest.param(rtb_request(None, id="r1"), "malformed", "not_a_bid_request", id="no bid"),
    ],
)  # fmt: skip
async def test_whatever_becomes_of_a_bid_is_ok_without_mutations(
    valkey: Engine, message: bytes, outcome: str, reason: str
) -> None:
    async with calling(valkey, **DSP, debug_header=True) as caller:
        replied = await caller.call(message, x_enrich_debug="1")

        assert (replied.status, replied.ids, replied.response.id) == (0, [], "r1")
        assert replied.head["x-enrich-outcome"] == outcome
        assert replied.head.get("x-enrich-reason", "") == reason
        assert caller.service.count(outcome, reason) == 1


async def test_age_of_the_data_is_told_where_there_is_one(valkey: Engine) -> None:
    async with calling(valkey, **DSP) as caller:
        unasked = await caller.call(call_of())
        caller.service.worker.bids.age_line = age_line_of(3.2)
        told = await caller.call(call_of())

    assert "x-enrich-data-age" not in unasked.head
    assert told.head["x-enrich-data-age"] == "4"


async def test_bug_in_reading_is_ok_without_mutations(
    valkey: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(valkey, **DSP) as caller:
        calls = caller.service.worker.calls

        def fails(*_: Any) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(calls, "ask_of", fails)
        replied = await caller.call(call_of())

        assert (replied.status, replied.ids, replied.response.id) == (0, [], "r1")
        assert caller.service.count("no_match", "fault") == 1


async def test_outcome_is_told_coarsely_where_it_is_to_be(valkey: Engine) -> None:
    async with calling(valkey, **DSP, outcome_header="coarse") as caller:
        some, none = await caller.call(call_of()), await caller.call(call_of(OPTED_OUT))

    assert [r.head["x-enrich-outcome"] for r in (some, none)] == ["enriched", "passed"]


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({"artf_ids_per_mutation": 1}, [["101"], ["102"]]),
        ({"artf_id": "partner:segment"}, [["shop:101", "shop:102"]]),
        ({"artf_id": "segment"}, [["101", "102"]]),
    ],
)
async def test_mutations_are_written_as_the_operator_says(
    valkey: Engine, settings: dict[str, Any], ids: list[list[str]]
) -> None:
    async with calling(valkey, **DSP, **settings) as caller:
        assert (await caller.call(call_of())).ids == ids


async def test_ids_name_their_partner_where_the_recipient_has_several(valkey: Engine) -> None:
    two = RecipientEntry(1, "dsp-a", is_active=True, partner_ids=(1, 2))
    async with calling(valkey, **DSP) as caller, connect(valkey.url) as redis:
        await publish_recipients(redis, 2, two)
        await eventually(lambda: caller.service.worker.bids.catalog.version == 2)
        replied = await caller.call(call_of())

    assert replied.ids == [["shop:101", "shop:102"]]
    assert replied.response.metadata.model_version == "2"


async def test_segments_that_are_there_are_left_out(valkey: Engine) -> None:
    there = [{"id": "shop", "segment": [{"id": "101"}]}]
    message = rtb_request({**bid(), "user": {**bid()["user"], "data": there}}, id="r1")
    async with calling(valkey, **DSP) as caller:
        assert (await caller.call(message)).ids == [["102"]]


async def test_message_may_be_gzip(valkey: Engine) -> None:
    async with calling(valkey, **DSP) as caller:
        replied = await caller.call(call_of(), compression=grpc.Compression.Gzip)

    assert replied.ids == [["101", "102"]]


async def test_message_in_another_encoding_is_unimplemented_and_ours_are_said(
    valkey: Engine,
) -> None:
    async with calling(valkey, **DSP) as caller:
        replied = await caller.call(call_of() * 8, compression=grpc.Compression.Deflate)
        after = await caller.call(call_of())

    assert replied.status == 12
    assert after.status == 0


async def test_what_is_no_protobuf_is_an_invalid_argument(valkey: Engine) -> None:
    async with calling(valkey, **DSP) as caller:
        replied = await caller.call(b"\x0a\xff")

        assert replied.status == 3
        assert replied.trailers["x-enrich-error"] == "not_protobuf"
        assert caller.service.count("malformed", "not_protobuf") == 1


@pytest.mark.parametrize("folds", [False, True])
async def test_message_that_is_too_long_is_exhausted(valkey: Engine, folds: bool) -> None:
    compression = grpc.Compression.Gzip if folds else None
    async with calling(valkey, **DSP, max_body_bytes=2_000) as caller:
        replied = await caller.call(bytes(100_000), compression=compression)

        assert replied.status == 8
        assert caller.refused(Refusal.BODY_TOO_LARGE) == 1


@pytest.mark.parametrize(
    "path", ["/a.B/GetMutation", "/grpc.health.v1.Health/List", "/openrtb2/enrich"]
)
async def test_other_method_is_unimplemented(valkey: Engine, path: str) -> None:
    async with calling(valkey, **DSP) as caller:
        assert (await caller.call(call_of(), path)).status == 12


async def test_door_is_shut_while_nobody_is_to_be_answered(valkey: Engine) -> None:
    async with calling(valkey) as caller:
        assert (await caller.call(call_of())).status == 12
        await eventually(lambda: caller.service.worker.is_serving)
        assert (await caller.call(path=HEALTH)).message == b"\x08\x01"


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({"default_recipient": "dsp-a"}, [["101", "102"]]),
        ({"default_recipient": "dsp-without-grants", **DSP}, [["101", "102"]]),
        ({"default_recipient": "dsp-without-grants"}, []),
        ({"allow_unnamed_recipient": True}, [["101", "102"]]),
        ({"artf_recipient": "nobody", "allow_unnamed_recipient": True}, []),
    ],
)
async def test_recipient_is_the_one_of_the_settings(
    valkey: Engine, settings: dict[str, Any], ids: list[list[str]]
) -> None:
    async with calling(valkey, **settings) as caller:
        replied = await caller.call(call_of())

    assert (replied.status, replied.ids) == (0, ids)


async def test_recipient_may_be_known_by_the_originator(valkey: Engine) -> None:
    names = {"ssp-1": "dsp-a", "ssp-2": "dsp-without-grants"}
    async with calling(valkey, artf_recipient=names, allow_unnamed_recipient=True) as caller:
        originators: list[dict[str, str]] = [{"id": f"ssp-{n}"} for n in (1, 2, 3)]
        found = [
            (await caller.call(call_of(originator=originator))).ids
            for originator in (*originators, {})
        ]

        assert found == [[["101", "102"]], [], [], []]
        assert caller.refused(Refusal.UNKNOWN_RECIPIENT) == 2


@pytest.mark.parametrize(
    ("metadata", "status"),
    [({}, 16), ({"authorization": "Bearer theirs"}, 16), ({"authorization": "Bearer ours-new"}, 0)],
)
@pytest.mark.parametrize("recipient", ["dsp-a", {"ssp": "dsp-a"}])
async def test_token_that_the_recipient_needs_must_be_shown(
    valkey: Engine, metadata: dict[str, str], status: int, recipient: Any
) -> None:
    message = call_of(originator={"id": "ssp"})
    async with calling(valkey, artf_recipient=recipient) as caller, connect(valkey.url) as redis:
        await publish_recipients(redis, 2, *ENTRIES)
        await eventually(lambda: caller.service.worker.bids.catalog.version == 2)

        assert (await caller.call(message, **metadata)).status == status


async def test_certificate_that_the_recipient_needs_must_be_shown(valkey: Engine) -> None:
    needs = RecipientEntry(1, "dsp-a", is_active=True, partner_ids=(1,), certificates=("dns:a",))
    async with calling(valkey, **DSP) as caller, connect(valkey.url) as redis:
        await publish_recipients(redis, 2, needs)
        await eventually(lambda: caller.service.worker.bids.catalog.version == 2)

        assert (await caller.call(call_of())).status == 7


@pytest.mark.parametrize(
    ("tmax", "timeout_s", "least_s", "most_s"),
    [
        pytest.param(10_000, 30.0, 5.0, 5.0, id="half of RTBRequest.tmax"),
        pytest.param(100_000, 8.0, 4.0, 8.0, id="grpc-timeout"),
        pytest.param(0, 30.0, 10.0, 10.0, id="the cap"),
    ],
)
async def test_call_waits_as_long_as_its_host_lets_it(
    valkey: Engine, tmax: int, timeout_s: float, least_s: float, most_s: float
) -> None:
    message = rtb_request(bid(), id="r1", tmax=tmax)
    async with calling(valkey, **DSP, deadline_cap_ms=10_000) as caller:
        deadlines = caller.service.worker.bids.deadlines
        valkey.freeze()
        try:
            replied = asyncio.create_task(caller.call(message, timeout_s=timeout_s))
            await eventually(lambda: bool(deadlines._tick_to_waiting))
            waiting: Any
            [[waiting]] = deadlines._tick_to_waiting.values()
            left_s = waiting._due_s - waiting._began_s
        finally:
            valkey.thaw()
        assert (await replied).status == 0

    assert least_s - 0.001 < left_s < most_s + 0.001


async def test_call_that_is_out_of_time_is_ok(valkey: Engine) -> None:
    async with calling(valkey, **DSP, deadline_cap_ms=0.001) as caller:
        replied = await caller.call(call_of())

    assert (replied.status, replied.ids) == (0, [])
    assert replied.head["x-enrich-outcome"] == "out_of_time"


async def test_health_is_our_own_state(valkey: Engine) -> None:
    async with calling(valkey) as caller:
        await eventually(lambda: caller.service.worker.is_serving)
        well = await caller.call(path=HEALTH)
        caller.service.worker.site.is_draining = True
        leaving = await caller.call(path=HEALTH)

    assert (well.status, well.message) == (0, b"\x08\x01")
    assert (leaving.status, leaving.message) == (0, b"\x08\x02")


async def test_one_endpoint_serves_a_host_that_forgives_nothing(valkey: Engine) -> None:
    async with calling(valkey, **DSP) as caller:
        digests = [MEMBER, OPTED_OUT, STRANGER, None] * 25
        found = [
            await asyncio.to_thread(caller.host.get_mutations, call_of(digest), path)
            for digest in digests
            for path in (SERVICES, DOCUMENT)
        ]

    assert found == [ids for ids in ([["101", "102"]], [], [], []) for _ in range(2)] * 25
