"""Names of catalog revisions, which expose a restored copy that went on by itself."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and name the current revision."""
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
