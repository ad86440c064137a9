"""
Settings on their way from the supervisor to a worker: in memory, not in the environment.

What the supervisor has read and found right is what the worker runs with. Were it
to read for itself, a `.env` file that was broken since, and that a roll refused,
would keep a worker that died from being started again.
"""

import os
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from rtb.settings import RtbSettings


class SettingsHandoff:
    """
    Settings that any number of workers are started with.

    Args:
        settings: As read.
    """

    def __init__(self, settings: RtbSettings) -> None:
        self.settings = settings
        self.fd = os.memfd_create("rtb-settings")
        """For the worker to inherit, and to `read`; closed when nobody has these settings."""
        os.write(self.fd, settings.model_dump_json().encode())

    def __del__(self) -> None:
        os.close(self.fd)

    @staticmethod
    def read(fd: int) -> RtbSettings:
        """Read in the worker what was handed over; others may be reading the same."""
        return _Only.model_validate_json(os.pread(fd, os.fstat(fd).st_size, 0))


class _Only(RtbSettings):
    """The settings as they were handed over, whatever stands in the environment by now."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - given by name
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the arguments alone; part of pydantic-settings."""
        return (init_settings,)
