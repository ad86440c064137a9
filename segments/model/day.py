"""The length of a day."""

from typing import Final

S_PER_DAY: Final = 86_400
