"""Many commands in one round trip: replies in order, errors without arguments, none left behind."""

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from segments.store.bulk_commands import replies_to


async def test_replies_are_in_the_order_of_the_commands(redis_client: Redis) -> None:
    fields = {str(n).encode(): b"\xff" * n for n in range(200)}
    await redis_client.hset("h", mapping=fields)  # type: ignore[arg-type] # bytes

    none, held, length = await replies_to(
        redis_client, [(b"HGETALL", b"n"), (b"HGETALL", b"h"), (b"HLEN", b"h")]
    )

    assert none == []
    assert dict(zip(held[::2], held[1::2], strict=True)) == fields
    assert length == 200


async def test_refusal_does_not_leave_replies_to_the_next_commands(redis_client: Redis) -> None:
    await redis_client.set("text", "t")

    with pytest.raises(ResponseError) as refused:
        await replies_to(redis_client, [(b"HLEN", b"text"), (b"GET", b"text")])

    assert "text" not in str(refused.value)
    assert await replies_to(redis_client, [(b"STRLEN", b"text")]) == [1]


async def test_lost_connection_is_made_anew(redis_client: Redis) -> None:
    [lost] = await replies_to(redis_client, [(b"CLIENT", b"ID")])
    await redis_client.client_kill_filter(_id=lost, skipme=False)

    [another] = await replies_to(redis_client, [(b"CLIENT", b"ID")])

    assert another != lost
