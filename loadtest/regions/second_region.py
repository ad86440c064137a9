"""
The second region: a store that follows a publication over a slow link, and bids.

Of the first region it has only the bucket.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from loadtest.ports import free_ports
from loadtest.running import Running
from loadtest.servers import HOST

PUBLICATION = "s3://bucket/seg"


@contextmanager
def bucket() -> Iterator[int]:
    """Run an S3 server with an empty bucket, in a thread; gives its port."""
    # A second of imports.
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    server = ThreadedMotoServer(HOST, 0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        with urlopen(Request(f"http://{HOST}:{port}/bucket", method="PUT")):
            yield port
    finally:
        server.stop()


def bucket_env(port: int) -> dict[str, str]:
    """Return the environment in which `PUBLICATION` is in the bucket at a port."""
    return {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "regions",
        "AWS_SECRET_ACCESS_KEY": "regions",
    }


class SecondRegion(Running):
    """
    `rtb-segments serve --follow`.

    Args:
        directory: For its data; a short path.
        link_port: Of the slow link to the bucket.
        public_key: Of the publisher.
        variables: Additional settings.
    """

    def __init__(
        self, directory: Path, link_port: int, public_key: str, variables: Mapping[str, str]
    ) -> None:
        self.port, admin_port = free_ports(2)
        env = {name: value for name, value in os.environ.items() if "RTB_" not in name}
        env |= bucket_env(link_port) | {
            "SEGMENTS_DATA_DIR": str(directory),
            "RTB_FOLLOW_KEYS": public_key,
            "RTB_HOST": HOST,
            "RTB_PORT": str(self.port),
            "RTB_ADMIN_PORT": str(admin_port),
            "RTB_STOP_ACCEPTING_AFTER_S": "0",
            **variables,
        }
        argv = [sys.executable, "-m", "segments", "serve", "--follow", PUBLICATION]
        super().__init__(argv, env, directory / "serve.log", admin_port)
