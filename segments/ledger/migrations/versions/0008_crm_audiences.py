"""The CRM door: campaigns, audiences, activations, and the counts of each upload."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "campaigns",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("account_id", _ROW_ID, nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_campaigns_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_campaigns_account_id"), "campaigns", ["account_id"], unique=False)
    op.create_table(
        "crm_audiences",
        sa.Column("audience_id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("campaign_id", _ROW_ID, nullable=False),
        sa.Column("user_id", _ROW_ID, nullable=False),
        sa.Column("description", sa.String(length=2048)),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("updated_at_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("fk_crm_audiences_audience_id")
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_crm_audiences_campaign_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_crm_audiences_user_id")),
        sa.PrimaryKeyConstraint("audience_id", name=op.f("pk_crm_audiences")),
    )
    op.create_table(
        "activations",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("audience_id", _ROW_ID, nullable=False),
        sa.Column("recipient_id", _ROW_ID, nullable=False),
        sa.Column("segment_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("description", sa.String(length=2048)),
        sa.Column("live_from_s", sa.BigInteger(), nullable=False),
        sa.Column("live_until_s", sa.BigInteger(), nullable=False),
        sa.Column("flow_id", sa.String(length=36), nullable=False),
        sa.Column("updated_at_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("fk_activations_audience_id")
        ),
        sa.ForeignKeyConstraint(
            ["recipient_id"], ["recipients.id"], name=op.f("fk_activations_recipient_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activations")),
        sa.UniqueConstraint(
            "audience_id", "recipient_id", name=op.f("uq_activations_audience_id_recipient_id")
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "crm_uploads",
        sa.Column("audience_id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("job_id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("total_rows", sa.BigInteger(), nullable=False),
        sa.Column("data_set", sa.JSON(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("fk_crm_uploads_audience_id")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_crm_uploads_job_id")),
        sa.PrimaryKeyConstraint("audience_id", "job_id", name=op.f("pk_crm_uploads")),
    )
