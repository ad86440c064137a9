"""
How far the clocks of the ledger's processes, on several machines, may differ.

A time further ahead dates from before the clock was set back.
"""

from typing import Final

CLOCKS_DIFFER_S: Final = 60.0
"""Between two processes, at most."""
