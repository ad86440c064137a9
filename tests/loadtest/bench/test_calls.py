"""grpcio's own servers answer as we do, and the report says what was reached."""

import pytest

from loadtest.artf.messages import rtb_request
from loadtest.bench.calls import EIGHT_ROW, JSON_ROW, ONE_ROW, Extent, called, report
from loadtest.bench.peers.build import Deadline, grpc_peers
from loadtest.servers import Servers
from tests.edge.small_store import MEMBER, OPTED_OUT, STRANGER, serving
from tests.edge.test_calls import bid
from tests.engines import Engine

BIDS = [
    *(bid(digest) for digest in (MEMBER, OPTED_OUT, STRANGER, None)),
    bid(regs={"coppa": 1}),
    bid(regs={"gdpr": 1}),
    bid(regs={"us_privacy": "1YYN"}),
    bid(regs={"gpp_sid": [7]}),
    bid(regs={"gdpr": 0}, device={"lmt": 0}),
    {**bid(), "user": {**bid()["user"], "data": [{"id": "shop", "segment": [{"id": "101"}]}]}},
]


async def test_peers_answer_as_we_do(valkey: Engine) -> None:
    messages = [
        rtb_request(one, id=f"r{n}", tmax=10_000, lifecycle=1, originator={"id": "dsp-a"})
        for n, one in enumerate(BIDS)
    ]
    settings = {"artf_recipient": {"dsp-a": "dsp-a"}, "artf_id": "partner:segment"}
    async with serving(valkey.url, **settings) as service, Servers(None) as servers:
        ours = await called(service.port, messages)
        for peer in grpc_peers(valkey.url, Deadline(cap_ms=10_000)):
            server = await peer.start(servers)
            theirs = await called(server.port, messages)

            assert theirs == ours, peer.name

    assert [answer.outcome for answer in ours] == [
        "enriched", "opted_out", "no_match", "no_identity", "no_consent", "no_consent",
        "no_consent", "no_consent", "enriched", "enriched",
    ]  # fmt: skip
    assert ours[-1].ids == {"shop:102"}


@pytest.mark.parametrize(("eight_us", "verdict"), [(18.0, "reached"), (18.2, "missed")])
def test_report_compares_medians_with_the_targets(eight_us: float, verdict: str) -> None:
    costs: dict[str, list[float]] = {
        JSON_ROW: [20.0, 90.0, 10.0],
        ONE_ROW: [10.0],
        EIGHT_ROW: [eight_us],
        "grpcio": [200.0],
    }

    lines = report("A machine.", Extent(1_000, 2_000, 3), costs).splitlines()

    assert f"| {JSON_ROW} | 20.0 (10.0-90.0) | 1.00 |" in lines
    assert "| grpcio | 200.0 (200.0-200.0) | 10.00 |" in lines
    assert f"| {ONE_ROW}, of JSON's CPU | 0.50 | 0.9 | reached |" in lines
    assert lines[-1].endswith(f"| 0.9 | {verdict} |")
