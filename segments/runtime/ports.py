import os


class CannotListen(Exception):
    """A port is unavailable; the message names its setting and the reason."""

    def __init__(self, setting: str, port: int, error: OSError) -> None:
        super().__init__(f"{setting}={port}: {os.strerror(error.errno or 0)}")
