"""Target and detail of an audit entry, for manual acts."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; earlier entries have neither."""
    op.add_column("audit", sa.Column("target", sa.String(length=512), nullable=True))
    op.add_column("audit", sa.Column("detail", sa.JSON(none_as_null=True), nullable=True))
