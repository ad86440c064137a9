"""A bid explained over a store: by the command of the data plane, and on the admin port."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import msgspec
from redis.asyncio import Redis

from segments.model.explained_bid import Asked, Explanation, trail_digest
from segments.model.identity import id_of_email_hash
from segments.store.servers.connection import connect
from tests.edge.small_store import MEMBER, bid_request, furnish
from tests.engines import Engine

KEY = bytes(range(16))


async def explain(store: Engine, *options: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run `python -m rtb explain`: its status, and what it writes to stdout and stderr."""
    env = {name: value for name, value in os.environ.items() if "RTB_" not in name}
    env["SEGMENTS_REDIS_URL"] = store.url
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rtb", "explain", *options),
        env=env,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    said, complaint = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, said.decode(), complaint.decode()


async def furnished(store: Engine) -> None:
    async with connect(store.url) as redis:
        await furnish(redis)


async def test_command_says_in_words_what_became_of_a_bid(valkey: Engine, tmp_path: Path) -> None:
    await furnished(valkey)
    request = tmp_path / "request.json"
    request.write_bytes(bid_request())

    status, said, _ = await explain(valkey, str(request), "--recipient", "dsp-a")

    assert status == 0
    assert said.startswith("enriched\n2 segments added, for dsp-a, by catalog 1\n+ Decode")
    assert "1 email  user.eids[0].uids[0]  rule 3: liveintent.com" in said
    assert '{"id":"101"},{"id":"102"}' in said
    assert MEMBER not in said


async def test_command_answers_a_question_as_the_port_does(valkey: Engine) -> None:
    await furnished(valkey)
    asked = Asked(bid_request().decode(), "dsp-held-out", at_s=1.8e9, trail_key=KEY.hex())

    status, said, _ = await explain(valkey, "--wire", stdin=msgspec.json.encode(asked))

    explanation = msgspec.json.decode(said, type=Explanation)
    assert status == 0
    assert (explanation.outcome, explanation.at_s) == ("held_out", 1.8e9)
    assert explanation.subjects == (trail_digest(KEY, id_of_email_hash(MEMBER)),)


async def test_command_says_what_keeps_it_from_explaining(
    engine: Engine, redis_client: Redis
) -> None:
    """No store that is ours, and then no recipient of that name."""
    empty = await explain(engine, "-", stdin=bid_request())
    await furnish(redis_client)
    nobody = await explain(engine, "-", "--recipient", "dsp-z", stdin=bid_request())
    no_file = await explain(engine, "nowhere.json")

    assert [status for status, _, _ in (empty, nobody, no_file)] == [1, 1, 1]
    assert empty[2].startswith("rtb: the store has no seg:1:meta")
    assert nobody[2].startswith("rtb: no active recipient has that name")
    assert no_file[2] == "rtb: the request can't be read (FileNotFoundError)\n"
