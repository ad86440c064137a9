"""
The common part of both planes' settings: environment variables, or lines of a `.env` file.

Kubernetes announces each Service to every container by variables, such as
`API_PORT=tcp://10.0.0.1:80` for `api`. Those of a Service called `rtb` or `segments-api` resemble
our settings, and are ignored.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from segments.runtime.log_level import LogLevel
from segments.runtime.log_lines import LogFormat
from segments.runtime.settings_errors import IN_FILE, names_of
from segments.runtime.telemetry import NOT_INSTALLED, Telemetry, is_installed

_SERVICE_NAMES: Final = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)",
    re.ASCII | re.IGNORECASE,
)
_SERVICE_ADDRESSES: Final = ("tcp://", "udp://", "sctp://")


class UnreadableSecret(Exception):
    """A secret can't be read from its file; the message is a line for the operator."""


class OperatorSettings(BaseSettings):
    """Settings of a plane; `env_prefix` is its own."""

    # `compose.yaml` passes unset variables as empty.
    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    log_level: LogLevel = Field(
        "info", validation_alias=AliasChoices("SEGMENTS_LOG_LEVEL", "LOG_LEVEL")
    )
    """
    Minimum level of log lines: `debug`, `info`, `warning`, `error`, `critical`, or another system's
    equivalent, such as `notice`, `warn` and `fatal`.
    """

    log_format: LogFormat = Field("text", validation_alias="SEGMENTS_LOG_FORMAT")
    """
    Form of log lines on stderr, the same in all processes, with times in UTC: `text`, or `json`, an
    object a line with `time`, `level`, `process`, `logger`, `message` and, while a REST door
    or the console answers, `request_id`.
    """

    otlp_url: str | None = Field(None, validation_alias="SEGMENTS_OTLP_URL")
    """
    OpenTelemetry collector, such as `http://collector:4318`, to which each process sends its
    metrics and its traces, by OTLP over HTTP. Needs `rtb-segments[otel]`. Headers and certificates
    come from OpenTelemetry's own variables, such as `OTEL_EXPORTER_OTLP_HEADERS`. Unset: nothing is
    sent.
    """

    otlp_every_s: float = Field(15.0, ge=0.1, le=600, validation_alias="SEGMENTS_OTLP_EVERY_S")
    """Interval between two exports of the metrics to `SEGMENTS_OTLP_URL`, in seconds."""

    @field_validator("otlp_url")
    @classmethod
    def _check_otlp_url(cls, url: str | None) -> str | None:
        """Refuse a URL of another protocol, and any without the library."""
        if url is not None:
            if not url.startswith(("http://", "https://")):
                raise ValueError("a collector's URL begins with http:// or https://")
            if not is_installed():
                raise ValueError(NOT_INSTALLED)
        return url

    def telemetry(self, process: str) -> Telemetry | None:
        """Where a process, named as in its log lines, sends metrics and traces, if anywhere."""
        if self.otlp_url is None:
            return None
        return Telemetry(self.otlp_url, self.otlp_every_s, process)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """
        Leave out Kubernetes' variables for Services, and read secrets from their files.

        Raises:
            UnreadableSecret: A file can't be read, or a secret is set twice.
        """
        environment = cast("EnvSettingsSource", env_settings)
        environment.env_vars = _with_files(settings_cls, _without_services(environment.env_vars))
        dotenv = cast("DotEnvSettingsSource", dotenv_settings)
        dotenv.env_vars = _with_files(settings_cls, dotenv.env_vars)
        return init_settings, environment, dotenv_settings, file_secret_settings


def texts(value: Any) -> Any:
    """Accept `a, b` as well as a sequence: operators type lists by hand."""
    if isinstance(value, str):
        return tuple(text for part in value.split(",") if (text := part.strip()))
    return value


def set_variables(cls: type[OperatorSettings]) -> set[str]:
    """
    Return the names of set, non-empty variables, ours or not, in capitals.

    Raises:
        OSError: The `.env` file can't be read.
        UnicodeDecodeError: The `.env` file is not text.
    """
    sources = DotEnvSettingsSource(cls).env_vars, _without_services(EnvSettingsSource(cls).env_vars)
    return {name.upper() for source in sources for name, value in source.items() if value}


def _with_files(
    cls: type[BaseSettings], variables: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Add the secrets whose files are named: of `SEGMENTS_REDIS_URL_FILE`, `SEGMENTS_REDIS_URL`."""
    found = dict(variables)
    for name in [each for field in cls.model_fields for each in names_of(cls, field)]:
        path = variables.get(name.lower())
        secret = name.removesuffix(IN_FILE)
        if not path or secret == name or not _is_secret_file(cls, name):
            continue
        if variables.get(secret.lower()):
            raise UnreadableSecret(f"{name}: {secret} is set, too; set one of them")
        try:
            found[secret.lower()] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = type(error).__name__
            raise UnreadableSecret(f"{name}={path}: cannot be read ({why})") from None
    return found


def _is_secret_file(cls: type[BaseSettings], name: str) -> bool:
    return any(
        not field.repr and name in names_of(cls, each) for each, field in cls.model_fields.items()
    )


def _without_services(variables: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name: value for name, value in variables.items() if not _is_of_service(name, value)}


def _is_of_service(name: str, value: str | None) -> bool:
    if _SERVICE_NAMES.fullmatch(name):
        return True
    return name.upper().endswith("_PORT") and (value or "").startswith(_SERVICE_ADDRESSES)
