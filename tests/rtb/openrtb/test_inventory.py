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
