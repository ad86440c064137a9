"""Reads settings once, at the start of a process; each error is one line."""

import sys
from collections.abc import Callable, Collection
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings.exceptions import SettingsError

from segments.runtime.misspelt_settings import Unread, unread
from segments.runtime.operator_settings import OperatorSettings, UnreadableSecret, set_variables
from segments.runtime.settings_errors import unreadable_setting, variables_of, wrong_setting

T = TypeVar("T", bound=OperatorSettings)

WRONG_SETTINGS = 2
"""Exit status after wrong settings, as after wrong arguments."""


class WrongSettings(Exception):
    """Settings that a process can't run with; the message has a line for each."""


def read_settings(cls: type[T], others: Callable[[T], Collection[str]] = lambda _: ()) -> T:
    """
    Read a plane's settings, or end the process with a line for each wrong setting.

    `others` returns variables read elsewhere; it is called only if no setting reads a variable.

    Side effects: writes to stderr; exits with `WRONG_SETTINGS` if a setting is wrong or a variable
    nearly matches one.
    """
    try:
        settings, variables = _read(cls, others)
    except WrongSettings as wrong:
        sys.stderr.write(f"{wrong}\n")
        sys.exit(WRONG_SETTINGS)
    for variable in variables:
        sys.stderr.write(f"{variable}\n")
    return settings


def settings_of(cls: type[T]) -> T:
    """
    Read a plane's settings.

    Raises:
        WrongSettings: Settings are wrong, or variables nearly match a setting; a line for each.
    """
    settings, _ = _read(cls, lambda _: ())
    return settings


def _read(cls: type[T], others: Callable[[T], Collection[str]]) -> tuple[T, list[Unread]]:
    try:
        settings = cls()
        set_names = set_variables(cls)
    except UnreadableSecret as error:
        lines = [str(error)]
    except ValidationError as error:
        lines = [wrong_setting(cls, details) for details in error.errors()]
    except SettingsError as error:
        lines = [unreadable_setting(cls, error)]
    except (OSError, UnicodeDecodeError) as error:
        lines = [f".env: cannot be read ({type(error).__name__})"]
    else:
        found = list(unread(set_names, variables_of(cls), str(cls.model_config["env_prefix"])))
        read_elsewhere = others(settings) if found else ()
        variables = [each for each in found if each.name not in read_elsewhere]
        lines = [str(each) for each in variables if each.meant is not None]
        if not lines:
            return settings, variables
    raise WrongSettings("\n".join(lines))
