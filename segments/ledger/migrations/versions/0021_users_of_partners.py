"""Partners' users: who manages the keys and logins of an account, and first passwords."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, which the previous release ignores."""
    for name in ("is_admin", "must_change"):
        op.add_column(
            "users",
            sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.text("false")),
        )
