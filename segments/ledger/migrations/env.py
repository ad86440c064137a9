"""
Run by Alembic around every command: passes on the open connection.

The transaction is the caller's, so a failed migration leaves the ledger unchanged.
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
