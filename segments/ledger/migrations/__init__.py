"""
The ledger's migrations, one Alembic revision a file, from the first tables on.

Existing ledgers have run a released revision, so it is never edited, and spells out tables instead
of importing `segments.ledger.tables`, which moves on. `segments.ledger.database.engine` runs
missing revisions when a ledger opens; there is no `.ini` for the `alembic` command.
"""

HEAD = "0024"
"""The newest revision: this version's schema."""

VERSION_TABLE = "alembic_version"
