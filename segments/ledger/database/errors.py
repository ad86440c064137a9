"""
Why the ledger can't be used, in one line for the operator.

No message holds a URL, which may hold a password, or what a statement was
about, which may be a person's id.
"""


class LedgerUnusable(Exception):
    """The ledger can't be opened or used; the operator must change something."""


class LedgerAway(LedgerUnusable):
    """
    The ledger can't be used now, and that will pass: its server is down, say.

    Nobody's file is to blame. Whatever was not committed was not done, and may
    be done again.
    """


class NoLedger(LedgerUnusable):
    """There is no ledger where one is looked for, and whoever looks may not make one."""
