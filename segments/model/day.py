"""How long a day is."""

from typing import Final

S_PER_DAY: Final = 86_400
