"""
What an entry of the audit trail was done to, and how: for what people do by their own hand.

Written out, not taken from `segments.ledger.tables`: those move on, and a
ledger that was made by this revision has what stands here.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what was noted before has neither."""
    op.add_column("audit", sa.Column("target", sa.String(length=512), nullable=True))
    op.add_column("audit", sa.Column("detail", sa.JSON(none_as_null=True), nullable=True))
