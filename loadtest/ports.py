"""
Ports for servers that are about to be started.

Outside the kernel's ephemeral range, where another process might get the port before the server.
"""

import random
import socket
from contextlib import suppress
from pathlib import Path

_FIRST = 10_000
_FEW = 1_000


def free_ports(count: int) -> list[int]:
    """Return ports without a listener."""
    # ip(7): the first ephemeral port. If nearly all ports are ephemeral, so are these.
    given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    end = given if given > _FIRST + _FEW else 1 << 16
    ports: set[int] = set()
    while len(ports) < count:
        port = random.randrange(_FIRST, end)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.add(port)
    return list(ports)
