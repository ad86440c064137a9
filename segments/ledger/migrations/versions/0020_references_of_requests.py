"""
The privacy desk's references of requests, and the index by which it finds a request's entries.

The index takes some seconds for a trail of a million entries.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the index."""
    for table in ("data_subject_requests", "access_requests"):
        op.add_column(table, sa.Column("reference", sa.String(length=128), nullable=True))
    op.create_index(op.f("ix_audit_transaction_id"), "audit", ["transaction_id"])
