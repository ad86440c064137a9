"""Settings are read once, when a process starts; what is wrong is one line each."""

import sys
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings
from pydantic_settings.exceptions import SettingsError

from segments.runtime.settings_errors import unreadable_setting, wrong_setting

T = TypeVar("T", bound=BaseSettings)

WRONG_SETTINGS = 2
"""Exit status of a process that refuses its settings; as of one that refuses its arguments."""


class WrongSettings(Exception):
    """Settings that a process can't run with; the message has a line for each."""


def read_settings(cls: type[T]) -> T:
    """
    Read a plane's settings, or end the process with one line for each wrong one.

    Side effects: writes to stderr and exits with `WRONG_SETTINGS` if any is wrong.
    """
    try:
        return settings_of(cls)
    except WrongSettings as wrong:
        sys.stderr.write(f"{wrong}\n")
        sys.exit(WRONG_SETTINGS)


def settings_of(cls: type[T]) -> T:
    """
    Read a plane's settings.

    Raises:
        WrongSettings: One or more are wrong; a line for each.
    """
    try:
        return cls()
    except ValidationError as error:
        lines = [wrong_setting(cls, details) for details in error.errors()]
    except SettingsError as error:
        lines = [unreadable_setting(cls, error)]
    except (OSError, UnicodeDecodeError) as error:
        lines = [f".env: cannot be read ({type(error).__name__})"]
    raise WrongSettings("\n".join(lines))
