"""When each token, key and API key was last used, for the pages that list them."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, which the previous release ignores."""
    for table in ("privacy_tokens", "privacy_keys", "org_credentials", "ssh_keys"):
        op.add_column(table, sa.Column("used_at_s", sa.BigInteger(), nullable=True))
