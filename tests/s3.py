"""A bucket's server, in this process: moto's, which speaks S3 over a socket."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def s3_server() -> Iterator[str]:
    """Run one for a while; gives its URL. All of a process hold the same buckets."""
    # A second of imports, for those alone who want a bucket.
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
