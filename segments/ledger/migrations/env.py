"""
Run by Alembic around every command: hands it the connection that was opened.

The transaction is the caller's, so a migration that fails leaves the ledger as
it was: SQLite and PostgreSQL both take table definitions back.
"""

from alembic import context

from segments.ledger.migrations import VERSION_TABLE
from segments.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
