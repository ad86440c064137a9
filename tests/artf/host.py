"""
A host of ARTF containers, by gRPC's own client.

Its manners are those of the reference host (internal/federation/client.go, of
IABTechLab/agentic-real-time-framework): an insecure channel, no retries, and an endpoint that
answered anything but OK once is never asked again. Mutations of an intent that it did not ask
for are dropped. Its time-out of 100 ms is ours to choose: tests are of what is answered, and not of
how fast a busy machine is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc

from loadtest.artf.messages import artf

SERVICES = "/com.iabtechlab.bidstream.mutation.services.v1.RTBExtensionPoint/GetMutations"
"""In agenticrtbframeworkservices.proto, and in what OpenX and AWS have made of it."""
DOCUMENT = "/com.iabtechlab.bidstream.mutation.v1.RTBExtensionPoint/GetMutations"
"""In the document's own proto block."""
HEALTH = "/grpc.health.v1.Health/Check"

TIMEOUT_S = 30.0

Metadata = dict[str, str]


class Replied(NamedTuple):
    """What came of a call."""

    status: int
    message: bytes
    head: Metadata
    trailers: Metadata

    @property
    def response(self) -> Any:
        """The message as what it should be."""
        return artf.RTBResponse.FromString(self.message)

    @property
    def ids(self) -> list[list[str]]:
        """The segments of each mutation."""
        for mutation in self.response.mutations:
            assert (mutation.intent, mutation.op, mutation.path) == (1, 1, "/user/data/segment")
        return [list(mutation.ids.id) for mutation in self.response.mutations]


class Host:
    """
    One channel to one endpoint.

    Args:
        channel: Open.
        timeout_s: Of each call.
    """

    def __init__(self, channel: grpc.Channel, timeout_s: float = TIMEOUT_S) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self.is_healthy = True

    def call(
        self,
        message: bytes = b"",
        path: str = SERVICES,
        *,
        timeout_s: float | None = None,
        compression: grpc.Compression | None = None,
        **metadata: str,
    ) -> Replied:
        """Call, whatever comes of it."""
        multi = self._channel.unary_unary(path)
        pairs = [(name.replace("_", "-"), value) for name, value in metadata.items()]
        try:
            answer, call = multi.with_call(
                message,
                timeout=self._timeout_s if timeout_s is None else timeout_s,
                metadata=pairs,
                compression=compression,
            )
        except grpc.RpcError as error:
            answer, call = b"", error
        return Replied(
            call.code().value[0],
            answer,
            _plain(call.initial_metadata()),
            _plain(call.trailing_metadata()),
        )

    def get_mutations(self, message: bytes, path: str = SERVICES) -> list[list[str]]:
        """
        Ask for mutations, as the reference host does.

        Raises:
            AssertionError: The endpoint has been asked for the last time.
        """
        assert self.is_healthy, "the endpoint is dead for ever"
        replied = self.call(message, path)
        self.is_healthy = replied.status == 0
        assert self.is_healthy, f"status {replied.status}: the endpoint is dead for ever"
        return replied.ids


def _plain(metadata: Any) -> Metadata:
    return dict(metadata or ())


@contextmanager
def hosting(port: int, **options: Any) -> Iterator[Host]:
    """Open a channel of its own to a port of this machine."""
    args = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[*args, *options.items()]) as channel:
        yield Host(channel)
