import pytest

from segments.store.keys import SLOTS, slot_of
from segments.store.reader import StoreUnusable
from segments.store.servers.connection import several_of
from segments.store.servers.topology import Address, Unintelligible, View, best, view_of

_INFO = b"cluster_enabled:1\r\ncluster_current_epoch:%d\r\n"


def _node(
    port: int, role: bytes, health: bytes, endpoint: bytes | None = b"10.0.0.1"
) -> list[object]:
    return [b"port", port, b"endpoint", endpoint, b"role", role, b"health", health]


def test_a_failed_master_without_slots_is_no_part_of_the_cluster() -> None:
    shards = [
        [b"slots", [0, 9, 20, 29], b"nodes", [_node(1, b"master", b"online")]],
        [b"slots", [], b"nodes", [_node(2, b"master", b"fail")]],
        [b"slots", [], b"nodes", [_node(3, b"master", b"online"), _node(4, b"replica", b"fail")]],
    ]

    view = view_of(shards, _INFO % 7, "here", is_tls=False)

    assert [(shard.master.port, shard.replicas) for shard in view.shards] == [(1, ()), (3, ())]
    assert (view.epoch, view.covered) == (7, 20)


@pytest.mark.parametrize("endpoint", [b"", b"?", None], ids=["empty", "unknown", "null"])
def test_a_node_that_does_not_know_its_host_is_where_it_was_asked(endpoint: bytes | None) -> None:
    shards = [{b"slots": [0, 1], b"nodes": [_node(1, b"master", b"online", endpoint)]}]

    view = view_of(shards, _INFO % 1, "here", is_tls=False)

    assert view.shards[0].master == Address("here", 1)


def test_of_two_views_the_one_that_covers_more_counts_and_then_the_newer() -> None:
    whole = [[b"slots", [0, 9], b"nodes", [_node(1, b"master", b"online")]]]
    older, newer = (view_of(whole, _INFO % epoch, "here", is_tls=False) for epoch in (1, 2))
    alone = View(9, ())

    assert best([older, alone, newer]) == newer


@pytest.mark.parametrize(
    ("shards", "info"),
    [
        pytest.param([], b"cluster_enabled:0", id="no epoch"),
        pytest.param([[b"slots", [0]]], _INFO % 1, id="a shard cut short"),
        pytest.param(None, _INFO % 1, id="nothing"),
    ],
)
def test_what_is_no_view_is_refused(shards: object, info: bytes) -> None:
    with pytest.raises(Unintelligible):
        view_of(shards, info, "here", is_tls=False)


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        pytest.param(b"123456789", 0x31C3, id="the specification's example"),
        pytest.param(b"foo{123456789}bar", 0x31C3, id="a tag"),
        pytest.param(b"foo{}{bar}", slot_of(b"foo{}{bar}"), id="an empty tag is none"),
    ],
)
def test_slot_is_that_of_the_specification(key: bytes, slot: int) -> None:
    assert slot_of(key) == slot < SLOTS


def test_url_of_a_cluster_names_several_nodes() -> None:
    several = several_of("rediss+cluster://ann:pw@a:1,b:2?ssl_cert_reqs=none")

    assert several is not None
    assert several.addresses == (("a", 1), ("b", 2))
    assert several.is_tls
    assert (several.options["username"], several.options["password"]) == ("ann", "pw")


def test_url_of_sentinels_names_a_service_and_a_database() -> None:
    several = several_of("redis+sentinel://a,b:7/ads?db=3")

    assert several is not None
    assert several.addresses == (("a", 26379), ("b", 7))
    assert (several.service, several.options["db"]) == ("ads", 3)


@pytest.mark.parametrize(
    "url",
    ["redis+cluster://", "redis+cluster://a/b", "redis+sentinel://a", "redis+ring://secret@a"],
)
def test_wrong_url_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(StoreUnusable) as caught:
        several_of(url)

    assert "secret" not in str(caught.value)
