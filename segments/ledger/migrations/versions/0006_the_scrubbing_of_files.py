"""The progress of scrubbing in each file, and the files to delete for it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ERASURES = sa.text("action = 'ERASURE'")


def upgrade() -> None:
    """Add the columns, the indexes and the table."""
    op.add_column(
        "jobs",
        sa.Column("scrubbed_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column("jobs", sa.Column("scrubbed_at_s", sa.Float(), nullable=True))
    op.add_column("jobs", sa.Column("scrubbed", sa.JSON(), nullable=True))
    op.create_index("ix_jobs_scrubbed_seq", "jobs", ["scrubbed_seq"])
    op.create_index(
        "ix_data_subject_requests_erasures",
        "data_subject_requests",
        ["seq"],
        sqlite_where=_ERASURES,
        postgresql_where=_ERASURES,
    )
    op.create_table(
        "retired_blobs",
        sa.Column("name", sa.String(length=1024), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_retired_blobs")),
    )
