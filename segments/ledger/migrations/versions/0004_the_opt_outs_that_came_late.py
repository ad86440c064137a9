"""Opt-outs recorded while a job ran, of ids that the job had already reached."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "late_opt_outs",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_late_opt_outs_job_id")),
        sa.ForeignKeyConstraint(
            ["seq"], ["data_subject_requests.seq"], name=op.f("fk_late_opt_outs_seq")
        ),
        sa.PrimaryKeyConstraint("job_id", "seq", "id", name=op.f("pk_late_opt_outs")),
    )
