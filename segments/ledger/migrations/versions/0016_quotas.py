"""A partner's quotas, and the size of each delivery."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the empty table; an existing job counts as zero bytes."""
    op.create_table(
        "quotas",
        sa.Column(
            "partner_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("deliveries_per_day", sa.BigInteger(), nullable=True),
        sa.Column("delivered_bytes_per_day", sa.BigInteger(), nullable=True),
        sa.Column("kept_bytes", sa.BigInteger(), nullable=True),
        sa.Column("audiences", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["partner_id"], ["accounts.id"], name=op.f("fk_quotas_partner_id")),
        sa.PrimaryKeyConstraint("partner_id", name=op.f("pk_quotas")),
    )
    op.add_column(
        "jobs",
        sa.Column("delivered_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.create_index(op.f("ix_jobs_partner_created"), "jobs", ["partner_id", "created_at_s"])
