"""A client's source, and the clients for which a proxy speaks."""

from ipaddress import ip_network

import pytest

from segments.runtime.addresses import Proxies, source_of

PROXIES = Proxies((ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48")))
CLIENT, OTHER = "192.0.2.1", "198.51.100.7"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", True, id="one address"),
        pytest.param("192.0.2.1", "192.0.2.2", False, id="two addresses"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1", True, id="IPv4 in an IPv6 socket"),
        pytest.param("2001:db8::1", "2001:db8::2", True, id="one network of 64 bits"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="two networks"),
        pytest.param("fe80::1%eth0", "fe80::2", True, id="a zone"),
        pytest.param("", "192.0.2.1", False, id="no address"),
    ],
)
def test_source_is_an_address_or_a_network_of_64_bits(one: str, other: str, is_same: bool) -> None:
    assert (source_of(one) == source_of(other)) is is_same


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        pytest.param(CLIENT, [], CLIENT, id="no proxy"),
        pytest.param(CLIENT, [OTHER], CLIENT, id="a client that says it is a proxy"),
        pytest.param("10.0.0.1", [CLIENT], CLIENT, id="a proxy"),
        pytest.param("::ffff:10.0.0.1", [CLIENT], CLIENT, id="a proxy on an IPv6 socket"),
        pytest.param("2001:db8:ffff::1", [CLIENT], CLIENT, id="a proxy by IPv6"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="a proxy that says nothing"),
        pytest.param("10.0.0.1", [""], "10.0.0.1", id="a proxy that says an empty list"),
        pytest.param("10.0.0.1", [f"{OTHER}, {CLIENT}"], CLIENT, id="a client that lied before"),
        pytest.param("10.0.0.1", [OTHER, CLIENT], CLIENT, id="in two lines"),
        pytest.param("10.0.0.1", [f"{OTHER},{CLIENT},10.0.0.2"], CLIENT, id="two proxies"),
        pytest.param("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3", id="proxies alone"),
        pytest.param("10.0.0.1", [f"{CLIENT}, what, 10.0.0.2"], "10.0.0.2", id="garbage amid"),
        pytest.param("10.0.0.1", ["unknown"], "10.0.0.1", id="garbage"),
        pytest.param("10.0.0.1", ["127.0.0.1, _hidden"], "10.0.0.1", id="a name"),
        pytest.param("10.0.0.1", [f"{CLIENT}:4711"], CLIENT, id="a port"),
        pytest.param("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1", id="IPv6 with a port"),
        pytest.param("10.0.0.1", ["2001:db8::1"], "2001:db8::1", id="IPv6"),
        pytest.param("10.0.0.1", ["10.0.0.2," * 10_000], "10.0.0.1", id="a list without end"),
        pytest.param("", [CLIENT], "", id="no address"),
    ],
)
def test_proxy_is_believed_and_nobody_else(
    peer: str, forwarded_for: list[str], client: str
) -> None:
    assert PROXIES.client_of(peer, forwarded_for) == client


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert Proxies().client_of("10.0.0.1", [CLIENT]) == "10.0.0.1"
