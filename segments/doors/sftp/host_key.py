"""
The SFTP server's own key, which is made once and kept.

Clients remember it: another one would look to them like somebody between.
"""

import os
from pathlib import Path

import asyncssh


def host_key(path: Path) -> asyncssh.SSHKey:
    """Return the key that is kept in a file; a new one, if there is no such file yet."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = asyncssh.generate_private_key("ssh-ed25519", comment="rtb-segments sftp")
        mine = path.with_name(f"{path.name}.{os.getpid()}")
        fd = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(made.export_private_key())
            file.flush()
            os.fsync(fd)
        try:
            # Of two processes that begin at once, the first one's is kept.
            os.link(mine, path)
        except FileExistsError:
            pass
        finally:
            mine.unlink()
    return asyncssh.read_private_key(path)
