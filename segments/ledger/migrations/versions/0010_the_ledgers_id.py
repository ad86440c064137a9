"""The ledger's id, its last assigned numbers, and opt-outs taken over from a store."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table with its single row, and add the column."""
    ledger_identity = op.create_table(
        "ledger_identity",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ledger_id", sa.String(length=32), nullable=False),
        sa.Column("last_audience", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_opt_out", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_ledger_identity_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_identity")),
    )
    # An existing ledger gets a new id too: it never had any other.
    op.bulk_insert(ledger_identity, [{"id": 1, "ledger_id": secrets.token_hex(16)}])
    op.add_column("data_subject_requests", sa.Column("bucket_bits", sa.Integer(), nullable=True))
