import pytest

from segments.store.reader import StoreUnusable
from segments.store.servers.connection import connect
from tests.engines import Engine


@pytest.mark.parametrize("attribute", ["url", "tcp_url"])
async def test_store_is_reached_by_socket_and_by_port(valkey: Engine, attribute: str) -> None:
    async with connect(getattr(valkey, attribute)) as client:
        await client.set("name", b"\xff\x00")

        assert await client.get("name") == b"\xff\x00"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://u:planted@host", id="another scheme"),
        pytest.param("redis://u:plan/ted@host:6379", id="a password that is not quoted"),
        pytest.param("redis://host:planted", id="a port that is no number"),
        pytest.param("planted", id="no URL"),
    ],
)
def test_wrong_url_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(StoreUnusable, match="SEGMENTS_REDIS_URL") as caught:
        connect(url)

    assert caught.value.__context__ is None
    assert "plan" not in str(caught.value)
