import sys

import pytest

from rtb.openrtb.decode import Decoder
from rtb.openrtb.inventory import publisher_ids

_decode = Decoder()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"id":"1"}', set(), id="nowhere"),
        pytest.param(b'{"id":"1","site":{"publisher":{"id":"p"}}}', {"p"}, id="site"),
        pytest.param(b'{"id":"1","app":{"publisher":{"id":"p"}}}', {"p"}, id="app"),
        pytest.param(b'{"id":"1","dooh":{"publisher":{"id":8953}}}', {"8953"}, id="a number"),
        pytest.param(
            b'{"id":"1","site":{"publisher":{"id":"p"}},"app":{"publisher":{"id":"q"}}}',
            {"p", "q"},
            id="both",
        ),
        pytest.param(b'{"id":"1","site":[],"app":{"publisher":5}}', set(), id="odd objects"),
        pytest.param(b'{"id":"1","site":{"publisher":{"id":[]}}}', set(), id="odd id"),
        pytest.param(b'{"id":"1","site":{"publisher":{"id":1e999}}}', set(), id="no number"),
    ],
)
def test_publisher_is_read_wherever_the_impression_is(body: bytes, expected: set[str]) -> None:
    assert publisher_ids(_decode(body)) == expected


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"id":"1","site":{"publisher":{"id":"p"}},"site":{}}', id="site"),
        pytest.param(b'{"id":"1","app":{"publisher":{"id":"p"},"publisher":null}}', id="publisher"),
        pytest.param(b'{"id":"1","dooh":{"publisher":{"id":"p","id":1}}}', id="id"),
        pytest.param(b'{"id":"1","user":{},"user":{},"app":{"publisher":{"id":"p"}}}', id="user"),
    ],
)
def test_publisher_of_every_copy_is_read(body: bytes) -> None:
    found = publisher_ids(_decode(body))

    assert found is not None
    assert "p" in found


def test_publisher_that_can_not_be_read_is_not_taken_for_none() -> None:
    """
    A person may have told it no.
    """
    request = _decode(b'{"id":"1","x":' + b"[" * 500 + b"]" * 500 + b"}")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        found = publisher_ids(request)
    finally:
        sys.setrecursionlimit(limit)

    assert found is None
