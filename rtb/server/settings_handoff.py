"""
Settings on their way from the supervisor to a worker: in memory, not in the environment.

A worker runs with settings that the supervisor has validated: a `.env` file broken later must not
prevent a dead worker's restart.
"""

import os
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from rtb.settings import RtbSettings


class SettingsHandoff:
    """
    Settings for any number of workers.

    Args:
        settings: As read.
    """

    def __init__(self, settings: RtbSettings) -> None:
        self.settings = settings
        self.fd = os.memfd_create("rtb-settings")
        """Inherited by workers, for `read`; closed when unused by worker slots."""
        os.write(self.fd, settings.model_dump_json().encode())

    def __del__(self) -> None:
        os.close(self.fd)

    @staticmethod
    def read(fd: int) -> RtbSettings:
        """Read the settings in a worker; others may read at once."""
        return _Only.model_validate_json(os.pread(fd, os.fstat(fd).st_size, 0))


class _Only(RtbSettings):
    """The handed-over settings, whatever the environment says."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - given by name
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use the arguments alone; part of pydantic-settings."""
        return (init_settings,)
