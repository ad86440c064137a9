"""The time zones in which people of the console read times."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, which the previous release ignores."""
    for table in ("users", "staff"):
        op.add_column(table, sa.Column("time_zone", sa.String(length=64), nullable=True))
