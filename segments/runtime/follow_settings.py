from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from segments.runtime.operator_settings import OperatorSettings, texts


class FollowSettings(OperatorSettings):
    """Settings of `serve --follow`."""

    model_config = SettingsConfigDict(env_prefix="RTB_FOLLOW_", populate_by_name=True)

    follow: str | None = Field(None, validation_alias="RTB_FOLLOW", repr=False)
    """
    The publication that this pod follows, as in `serve --follow`: `file:///DIRECTORY`, `s3://`,
    `gs://` or `az://`. See docs/follow.md. Unset: none.
    """

    follow_keys: Annotated[tuple[str, ...], NoDecode, BeforeValidator(texts)] = Field(
        (), validation_alias="RTB_FOLLOW_KEYS"
    )
    """
    Public keys of trusted publishers, as `rtb-segments key publish` prints them, comma-separated;
    two while the publisher's key is being replaced. A follower needs at least one.
    """

    follow_poll_s: float = Field(2.0, ge=0.1, le=60, validation_alias="RTB_FOLLOW_POLL_S")
    """Interval between checks for a newer publication, in seconds."""

    follow_max_age_s: float = Field(
        900.0, ge=60, le=86_400, validation_alias="RTB_FOLLOW_MAX_AGE_S"
    )
    """
    Maximum age of the followed publication, in seconds. Beyond it nothing is enriched
    (`store_down`, reason `opt_outs_stale`), and the pod is not ready. Replaces
    `RTB_OPT_OUTS_MAX_AGE_S`.
    """

    data_dir: Path = Field(Path("data"), validation_alias="SEGMENTS_DATA_DIR")
    """Directory of the follower's store; its volume may be temporary."""

    @model_validator(mode="after")
    def _check_keys(self) -> "FollowSettings":
        """Refuse to follow an unsigned publication."""
        if self.follow is not None and not self.follow_keys:
            raise ValueError(
                "RTB_FOLLOW_KEYS: name the public key that `rtb-segments key publish` has printed;"
                " without one nothing that is published can be believed"
            )
        return self
