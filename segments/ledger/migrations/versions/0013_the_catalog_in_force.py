"""
Which revision of the catalog every bid is answered by: noted by a loader for who lost the store.

Written out, not taken from `segments.ledger.tables`: those move on, and a
ledger that was made by this revision has what stands here.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a loader notes within seconds what is so."""
    op.add_column(
        "catalog_revision",
        sa.Column("in_force", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
