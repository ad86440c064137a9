"""
What the settings of both planes have in common: environment variables, or lines of a `.env` file.

Kubernetes tells each container of every Service beside it by variables, `API_PORT=tcp://10.0.0.1:80`
for one that is called `api`. They have the form of our names when a Service is called `rtb` or
`segments-api`, and are nobody's setting.
"""

import re
from collections.abc import Mapping
from typing import Final, cast

from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

_SERVICE_NAMES: Final = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)",
    re.ASCII | re.IGNORECASE,
)
_SERVICE_ADDRESSES: Final = ("tcp://", "udp://", "sctp://")


class OperatorSettings(BaseSettings):
    """Settings of a plane; `env_prefix` is its own."""

    # What is set to nothing, as `compose.yaml` passes on an unset variable, is not set.
    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave out what Kubernetes says of Services."""
        environment = cast("EnvSettingsSource", env_settings)
        environment.env_vars = _without_services(environment.env_vars)
        return init_settings, environment, dotenv_settings, file_secret_settings


def set_variables(cls: type[OperatorSettings]) -> set[str]:
    """
    Return the names of what is set, ours or not, in capitals; without what is set to nothing.

    Raises:
        OSError: The `.env` file can't be read.
        UnicodeDecodeError: The `.env` file is not text.
    """
    sources = DotEnvSettingsSource(cls).env_vars, _without_services(EnvSettingsSource(cls).env_vars)
    return {name.upper() for source in sources for name, value in source.items() if value}


def _without_services(variables: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name: value for name, value in variables.items() if not _is_of_service(name, value)}


def _is_of_service(name: str, value: str | None) -> bool:
    if _SERVICE_NAMES.fullmatch(name):
        return True
    return name.upper().endswith("_PORT") and (value or "").startswith(_SERVICE_ADDRESSES)
