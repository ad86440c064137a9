"""
The clocks of the ledger's processes: how far they may differ.

Processes on several machines write times by their own clocks. A time that lies further ahead than
these differ dates from before the clock was set back.
"""

from typing import Final

CLOCKS_DIFFER_S: Final = 60.0
"""Between two processes, at most."""
