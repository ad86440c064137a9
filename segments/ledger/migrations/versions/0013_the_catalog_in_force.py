"""The catalog revision in force for every bid, for processes that lost the store."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a loader fills it within seconds."""
    op.add_column(
        "catalog_revision",
        sa.Column("in_force", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
