"""The SFTP door: partners' keys, deliveries in progress, callbacks."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "ssh_keys",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("account_id", _ROW_ID, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.String(length=4096), nullable=False),
        sa.Column("comment", sa.String(length=256), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_ssh_keys_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ssh_keys")),
        sa.UniqueConstraint(
            "account_id", "fingerprint", name=op.f("uq_ssh_keys_account_id_fingerprint")
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "deliveries",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("account_id", _ROW_ID, nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("transaction_id", sa.String(length=32), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("received_at_s", sa.Float(), nullable=False),
        sa.Column("job_id", _ROW_ID, nullable=True),
        sa.Column("answered_at_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_deliveries_account_id")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_deliveries_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("transaction_id", name=op.f("uq_deliveries_transaction_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_deliveries_unanswered",
        "deliveries",
        ["id"],
        unique=False,
        sqlite_where=sa.text("answered_at_s is null"),
        postgresql_where=sa.text("answered_at_s is null"),
    )
    op.create_table(
        "callbacks",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("transaction_id", sa.String(length=32), nullable=True),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("due_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_callbacks")),
        sqlite_autoincrement=True,
    )
