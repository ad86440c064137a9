"""
The ledger's migrations, one Alembic revision a file, from the first tables on.

A released revision is never edited, because existing ledgers have run it; so revisions spell out
tables instead of importing `segments.ledger.tables`, which moves on. There is no `.ini` for the
`alembic` command: `segments.ledger.database.engine` runs missing revisions when a ledger opens.
"""

HEAD = "0024"
"""The newest revision: this version's schema."""

VERSION_TABLE = "alembic_version"
