"""Counters shared by all processes: failed logins, and the addresses of users' logins."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "throttles",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("name_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name_sha256", name=op.f("pk_throttles")),
    )
    op.create_index(op.f("ix_throttles_until_ms"), "throttles", ["until_ms"])
