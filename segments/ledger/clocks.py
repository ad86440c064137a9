"""
How far the clocks of the ledger's processes may differ.

Processes on several machines write times by their own clocks. A time further ahead than this dates
from before the clock was set back.
"""

from typing import Final

CLOCKS_DIFFER_S: Final = 60.0
"""Between two processes, at most."""
