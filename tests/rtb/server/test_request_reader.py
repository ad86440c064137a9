"""A head that was seen before stands for itself, and for nothing else."""

import tracemalloc
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtb.server.http.request_heads import MAX_HEAD_BYTES, MAX_HEADS, Head, Heads
from rtb.server.http.request_reader import Limits, Reader, Taker
from rtb.server.http.unfinished import Unfinished
from rtb.server.http2.fields import head_of_fields
from rtb.server.metrics.layout import Refusal

NOW_S = 1.0


class Taken(NamedTuple):
    """One request as a taker got it."""

    method: bytes
    url: bytes
    headers: dict[bytes, bytes]
    encoding: bytes
    extra: bytes
    wants_gzip: bool
    is_last: bool
    body: bytes


class Recorder(Taker):
    """Keeps what it was told; after a refusal or a last request nothing more is taken."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.refused: list[Refusal] = []
        self.encouraged = 0
        self.is_over = False

    def take(self, head: Head, body: bytes) -> None:
        if self.is_over:
            return
        self.is_over = head.is_last
        assert head.body_bytes == len(body)
        self.taken.append(
            Taken(
                head.method,
                head.url,
                dict(head.headers),
                head.encoding,
                head.extra,
                head.wants_gzip,
                head.is_last,
                body,
            )
        )

    def refuse(self, refusal: Refusal) -> None:
        if not self.is_over:
            self.is_over = True
            self.refused.append(refusal)

    def encourage(self) -> None:
        self.encouraged += 1

    def end(self) -> None:
        self.is_over = True


def read(parts: list[bytes], heads: Heads | None) -> Recorder:
    """Read what comes on one connection; without `heads`, each head as if it were the first."""
    recorder = Recorder()
    limits = Limits(max_head_bytes=2_000, max_body_bytes=500)
    reader = Reader(recorder, limits, heads if heads is not None else Heads(), Unfinished(1 << 20))
    for part in parts:
        if not recorder.is_over:
            reader.read(part, NOW_S)
    reader.close()
    return recorder


def request(body: bytes, *lines: bytes, start: bytes = b"POST /openrtb2/enrich HTTP/1.1") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join((start, b"Host: a", length, *lines, b"", body))


_STARTS = st.sampled_from(
    [
        b"POST /openrtb2/enrich HTTP/1.1",
        b"POST /openrtb2/enrich/dsp-b HTTP/1.1",
        b"GET /openrtb25 HTTP/1.1",
        b"POST /openrtb25 HTTP/1.0",
        b"\r\nPOST /openrtb2/enrich HTTP/1.1",
        b"no HTTP at all",
    ]
)
_LINES = st.sampled_from(
    [
        b"Accept-Encoding: gzip",
        b"Content-Encoding: gzip",
        b"Connection: close",
        b"Connection: keep-alive",
        b"x-openrtb-version: 2.6",
        b"Expect: 100-continue",
        b"Expect: the worst",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Connection: Upgrade\r\nUpgrade: h2c",
        b"Host: b",
        b"X-Enrich-Debug: 1",
        b"X-Long: " + b"x" * MAX_HEAD_BYTES,
        b"X-Longer: " + b"x" * 2 * MAX_HEAD_BYTES,
        b"Content-Length: 3",
    ]
)
_BODIES = st.sampled_from([b"", b"{}", b"\r\n\r\n", b'{"id":"1"}', b"POST / HTTP/1.1", b"x" * 600])
_CHUNKED = (
    b"POST /openrtb2/enrich HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\n{}\r\n0\r\n\r\n"
)
_REQUESTS = st.just(_CHUNKED) | st.builds(
    lambda start, lines, body: request(body, *lines, start=start),
    _STARTS,
    st.lists(_LINES, max_size=3),
    _BODIES,
)


@given(st.lists(_REQUESTS, min_size=1, max_size=4), st.data())
def test_known_heads_change_nothing_of_what_is_read(
    requests: list[bytes], data: st.DataObject
) -> None:
    """
    However the bytes are cut, and whatever heads have been learnt before.
    """
    heads = Heads()
    for each in requests:
        read([each], heads)
    stream = b"".join(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    whole = data.draw(st.booleans())
    bounds = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    parts = requests if whole else [stream[at:end] for at, end in bounds if at < end]

    known, anew = read(parts, heads), read(parts, None)

    assert (known.taken, known.refused) == (anew.taken, anew.refused)
    assert known.encouraged == anew.encouraged


def test_known_head_is_looked_up_and_its_body_is_its_own() -> None:
    heads = Heads()

    recorder = read([request(b"{1}"), request(b"{2}"), request(b"{3}")], heads)

    assert [taken.body for taken in recorder.taken] == [b"{1}", b"{2}", b"{3}"]
    assert heads.of(request(b"{4}")) is not None


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(request(b"{}", b"Connection: close"), id="the last of its connection"),
        pytest.param(request(b"{}", b"Expect: 100-continue"), id="asks before it sends"),
        pytest.param(request(b"{}", b"Expect: the worst"), id="refused"),
        pytest.param(request(b"{}", b"X: " + b"x" * MAX_HEAD_BYTES), id="long"),
        pytest.param(request(b"x" * 600), id="a body too large"),
        pytest.param(_CHUNKED, id="chunked"),
        pytest.param(b"\r\n\r\n" + request(b"{}"), id="behind empty lines"),
        pytest.param(request(b"{}") + request(b"{}"), id="pipelined"),
        pytest.param(
            b"GET /v2/targeting?id=e:1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            id="a person's ids in the URL",
        ),
    ],
)
def test_head_is_not_learnt_that_can_not_stand_for_the_next(first: bytes) -> None:
    heads = Heads()

    read([first], heads)

    assert heads.of(first) is None


@pytest.mark.parametrize(
    ("method", "url", "is_kept"),
    [(b"POST", b"/openrtb2/enrich/dsp-a", True), (b"GET", b"/v2/targeting?id=e:1", False)],
)
def test_head_over_http_2_is_not_learnt_if_its_url_has_a_person_s_ids(
    method: bytes, url: bytes, is_kept: bool
) -> None:
    heads = Heads()
    fields = b":method\0%b\0:path\0%b\0:scheme\0http\0:authority\0x\0" % (method, url)
    head = head_of_fields(fields)
    assert isinstance(head, Head)

    heads.learn_fields(fields, head)

    assert (heads.of_fields(fields) is not None) == is_kept


def test_head_that_came_in_pieces_is_not_learnt() -> None:
    heads = Heads()
    whole = request(b"{}")

    read([whole[:10], whole[10:]], heads)

    assert heads.of(whole) is None


def test_table_holds_no_more_than_its_limit_and_rests_when_it_is_of_no_use() -> None:
    """
    A client that puts another trace id into each head would fill it for nothing.
    """
    heads = Heads()
    for n in range(MAX_HEADS + 1):
        read([request(b"{}", b"X-Trace: %d" % n)], heads)
    first, newest = (request(b"{}", b"X-Trace: %d" % n) for n in (0, MAX_HEADS))

    read([request(b"{}", b"X-Trace: again")], heads)

    assert heads.of(first) is None
    assert heads.of(newest) is not None
    assert heads.of(request(b"{}", b"X-Trace: again")) is None


@pytest.mark.parametrize("size_bytes", [1, 2, 7])
def test_body_in_tiny_chunks_weighs_little_more_than_itself(size_bytes: int) -> None:
    limits, recorder = Limits(), Recorder()
    count = limits.max_body_bytes // 8
    reader = Reader(recorder, limits, Heads(), Unfinished(1 << 20))
    head = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (size_bytes, b"x" * size_bytes)
    sent = chunk * (count // 64)
    tracemalloc.start()
    try:
        reader.read(head, NOW_S)
        for _ in range(64):
            reader.read(sent, NOW_S)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    reader.read(b"0\r\n\r\n", NOW_S)

    assert held_bytes < count * size_bytes + 64_000
    assert [len(taken.body) for taken in recorder.taken] == [count * size_bytes]


@pytest.mark.parametrize("step", [10_000, 64], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    ("url", "length", "is_read"),
    [
        pytest.param(b"/long?", 2_900, True, id="long"),
        pytest.param(b"/long?", 3_100, False, id="too long"),
        pytest.param(b"/other?", 2_100, False, id="of another path"),
        pytest.param(b"http://a.example/long?", 2_100, False, id="not at its beginning"),
    ],
)
def test_head_of_the_long_path_has_a_limit_of_its_own(
    url: bytes, length: int, is_read: bool, step: int
) -> None:
    head = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % (url + b"x" * length)
    limits = Limits(
        max_head_bytes=2_000, max_body_bytes=100, long_path=b"/long", max_long_head_bytes=3_000
    )
    recorder = Recorder()
    reader = Reader(recorder, limits, Heads(), Unfinished(1 << 20))
    for start in range(0, len(head), step):
        if not recorder.is_over:
            reader.read(head[start : start + step], NOW_S)
    reader.close()

    assert bool(recorder.taken) == is_read
    assert recorder.refused == ([] if is_read else [Refusal.HEAD_TOO_LARGE])


@pytest.mark.parametrize(("method", "is_kept"), [(b"POST", True), (b"GET", False)])
def test_head_that_says_everything_in_its_url_is_not_kept(method: bytes, is_kept: bool) -> None:
    """It is another each time, and a person's."""
    data = request(b"", start=method + b" /v2/targeting?id=x HTTP/1.1")
    heads = Heads()
    read([data], heads)

    assert (heads.of(data) is not None) == is_kept


def test_unfinished_bodies_together_hold_what_they_may_and_the_oldest_goes() -> None:
    """Of 300 bodies of 200 kB that never end, in pieces; one that means it comes through."""
    most_bytes = 4 << 20
    limits, unfinished = Limits(), Unfinished(most_bytes)
    begun = [Recorder() for _ in range(300)]
    meant = Recorder()
    start = request(b"x" * limits.max_body_bytes)[:1_000]
    tracemalloc.start()
    readers = []
    for recorder in begun:
        reader = Reader(recorder, limits, Heads(), unfinished)
        readers.append(reader)
        reader.read(start, NOW_S)
        for _ in range(20):
            reader.read(b"y" * 10_000, NOW_S)
    last = Reader(meant, limits, Heads(), unfinished)
    whole = request(b"z" * 200_000)
    last.read(whole[:150_000], NOW_S)
    last.read(whole[150_000:], NOW_S)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = sum(not recorder.refused for recorder in begun)
    held_bytes = unfinished.held_bytes
    for reader in readers:
        reader.close()

    assert [taken.body for taken in meant.taken] == [b"z" * 200_000]
    assert kept == held_bytes // 200_000 >= 19
    assert [recorder.refused for recorder in begun] == [
        [Refusal.TOO_MANY_UNFINISHED] if number < len(begun) - kept else []
        for number in range(len(begun))
    ]
    assert peak_bytes < most_bytes + 3_000_000
    assert unfinished.held_bytes == 0


def test_requests_that_come_whole_are_never_counted() -> None:
    unfinished = Unfinished(0)
    recorder = Recorder()
    reader = Reader(recorder, Limits(), Heads(), unfinished)
    for _ in range(3):
        reader.read(request(b"x" * 1_000) + request(b"y"), NOW_S)

    assert (len(recorder.taken), recorder.refused) == (6, [])
