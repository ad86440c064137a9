"""Settings are read once, when a process starts; what is wrong is one line each."""

import sys
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings.exceptions import SettingsError

from segments.runtime.misspelt_settings import Unread, unread
from segments.runtime.operator_settings import OperatorSettings, set_variables
from segments.runtime.settings_errors import names_of, unreadable_setting, wrong_setting

T = TypeVar("T", bound=OperatorSettings)

WRONG_SETTINGS = 2
"""Exit status of a process that refuses its settings; as of one that refuses its arguments."""


class WrongSettings(Exception):
    """Settings that a process can't run with; the message has a line for each."""


def read_settings(cls: type[T], others: Callable[[T], Collection[str]] = lambda _: ()) -> T:
    """
    Read a plane's settings, or end the process with one line for each wrong one.

    Args:
        cls: The settings.
        others: Returns the variables that somebody else than the settings reads; asked only
            where there is one that no setting reads.

    Side effects: writes to stderr; exits with `WRONG_SETTINGS` if a setting is wrong or a variable
    is nearly the name of one.
    """
    try:
        settings = settings_of(cls, others)
    except WrongSettings as wrong:
        sys.stderr.write(f"{wrong}\n")
        sys.exit(WRONG_SETTINGS)
    for variable in _unread(cls, settings, others):
        sys.stderr.write(f"{variable}\n")
    return settings


def settings_of(cls: type[T], others: Callable[[T], Collection[str]] = lambda _: ()) -> T:
    """
    Read a plane's settings; for `others` see `read_settings`.

    Raises:
        WrongSettings: One or more are wrong, or nearly have the name of one; a line for each.
    """
    try:
        settings = cls()
        misspelt = [each for each in _unread(cls, settings, others) if each.meant is not None]
    except ValidationError as error:
        lines = [wrong_setting(cls, details) for details in error.errors()]
    except SettingsError as error:
        lines = [unreadable_setting(cls, error)]
    except (OSError, UnicodeDecodeError) as error:
        lines = [f".env: cannot be read ({type(error).__name__})"]
    else:
        if not misspelt:
            return settings
        lines = list(map(str, misspelt))
    raise WrongSettings("\n".join(lines))


def _unread(cls: type[T], settings: T, others: Callable[[T], Collection[str]]) -> Iterator[Unread]:
    known = {name.upper() for field in cls.model_fields for name in names_of(cls, field)}
    found = list(unread(set_variables(cls), known, str(cls.model_config["env_prefix"])))
    read_elsewhere = others(settings) if found else ()
    return (each for each in found if each.name not in read_elsewhere)
