"""
The ledger's migrations, one Alembic revision a file, from the first table on.

A revision that was released is never edited: ledgers out there have run it.
`alembic` finds no `.ini` here; `segments.ledger.database.engine` runs what is missing
whenever a ledger is opened.
"""

HEAD = "0013"
"""The newest revision: what a ledger of this version of the software is at."""

VERSION_TABLE = "alembic_version"
