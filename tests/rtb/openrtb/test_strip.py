import pytest

from rtb.openrtb.decode import Decoder
from rtb.openrtb.strip import Strip


def _stripped(body: bytes, *paths: str) -> tuple[bytes, tuple[str, ...]]:
    decoder = Decoder(paths)
    request, stripped = Strip(paths, decoder)(decoder(body))
    return request.body, stripped


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            b'{"id":"1", "user":{"ext":{"hashes":{"email":"e"}},"yob": 1.0}}',
            b'{"id":"1", "user":{"ext":{},"yob": 1.0}}',
            id="alone in ext",
        ),
        pytest.param(
            b'{"id":"1","user":{"ext":{"a":1,"hashes":"odd","b":2}},"user2":{}}',
            b'{"id":"1","user":{"ext":{"a":1,"b":2}},"user2":{}}',
            id="of an odd type",
        ),
        pytest.param(
            rb'{"id":"1","\u0075ser":{"ext":{"\u0068ashes":[1]}}}',
            rb'{"id":"1","\u0075ser":{"ext":{}}}',
            id="with its names escaped",
        ),
    ],
)
def test_configured_path_is_taken_out(body: bytes, expected: bytes) -> None:
    assert _stripped(body, "user.ext.hashes") == (expected, ("user.ext.hashes",))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"id":"1"}', id="no user"),
        pytest.param(b'{"id":"1","ext":{"hashes":1},"user":{"hashes":1}}', id="elsewhere"),
        pytest.param(b'{"id":"1","user":[],"imp":[]}', id="odd user"),
    ],
)
def test_nothing_to_strip_is_the_body_itself(body: bytes) -> None:
    assert _stripped(body, "user.ext.hashes")[0] is body


def test_path_that_ends_early_strips_nothing() -> None:
    body = b'{"id":"1","user":{"ext":{"hashes":{"phone":1}}},"site":{}}'

    assert _stripped(body, "user.ext.hashes.email", "site.ext.x") == (body, ())


def test_several_paths_are_stripped_in_and_out_of_the_user() -> None:
    body = (
        b'{"id":"1","user":{"yob":1984,"data":[{}]},"device":{"ifa":"i","ip":"1"},"site":{"k":1}}'
    )

    assert _stripped(body, "user.data", "device.ip", "site.k", "user.yob", "ext.none") == (
        b'{"id":"1","user":{},"device":{"ifa":"i"},"site":{}}',
        ("user.data", "device.ip", "site.k", "user.yob"),
    )


def test_whole_user_can_be_stripped() -> None:
    assert _stripped(b'{"id":"1","user":{"yob":1984}}', "user") == (b'{"id":"1"}', ("user",))
