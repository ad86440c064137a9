"""
A name for each revision of the catalog, by which a restored copy is told that went on by itself.

Written out, not taken from `segments.ledger.tables`: those move on, and a
ledger that was made by this revision has what stands here.
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and name the revision that there is."""
    op.create_table(
        "revision_names",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_revision_names")),
    )
    op.execute(
        sa.text(
            "insert into revision_names (revision, name) select revision, :name"
            " from catalog_revision"
        ).bindparams(name=secrets.token_hex(16))
    )
