"""Credentials of a recipient's bid requests: a bearer token, a client certificate."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of tokens; existing recipients need none."""
    op.create_table(
        "recipient_tokens",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "recipient_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("token_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at_s", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["recipient_id"],
            ["recipients.id"],
            name=op.f("fk_recipient_tokens_recipient_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recipient_tokens")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_recipient_tokens_token_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_recipient_tokens_recipient_id"), "recipient_tokens", ["recipient_id"])
    op.add_column(
        "recipients",
        sa.Column("needs_token", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column("recipients", sa.Column("certificates", sa.JSON(), nullable=True))
