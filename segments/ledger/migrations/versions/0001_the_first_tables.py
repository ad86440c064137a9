"""The first tables: accounts, recipients, audiences, jobs, data subject requests."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables, and the catalog's revision."""
    op.create_table(
        "accounts",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("public_id", sa.String(length=128), nullable=False),
        sa.Column("id_space", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("parent_id", _ROW_ID, nullable=True),
        sa.Column("segtax", sa.Integer(), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind in ('agency', 'advertiser', 'publisher', 'media_group')",
            name=op.f("ck_accounts_kind"),
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["accounts.id"], name=op.f("fk_accounts_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("id_space", "public_id", name=op.f("uq_accounts_id_space_public_id")),
        sqlite_autoincrement=True,
    )
    catalog_revision = op.create_table(
        "catalog_revision",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_catalog_revision_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalog_revision")),
    )
    op.create_table(
        "recipients",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("hold_out", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recipients")),
        sa.UniqueConstraint("name", name=op.f("uq_recipients_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "account_relations",
        sa.Column("publisher_id", _ROW_ID, nullable=False),
        sa.Column("advertiser_id", _ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["advertiser_id"], ["accounts.id"], name=op.f("fk_account_relations_advertiser_id")
        ),
        sa.ForeignKeyConstraint(
            ["publisher_id"], ["accounts.id"], name=op.f("fk_account_relations_publisher_id")
        ),
        sa.PrimaryKeyConstraint("publisher_id", "advertiser_id", name=op.f("pk_account_relations")),
    )
    op.create_table(
        "audiences",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("owner_id", _ROW_ID, nullable=False),
        sa.Column("partner_id", _ROW_ID, nullable=False),
        sa.Column("segment_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("live_from_s", sa.BigInteger(), nullable=True),
        sa.Column("live_until_s", sa.BigInteger(), nullable=True),
        sa.Column("ttl_days", sa.Integer(), nullable=True),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_s", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state in ('active', 'deactivated', 'deleted')", name=op.f("ck_audiences_state")
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["accounts.id"], name=op.f("fk_audiences_owner_id")),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["accounts.id"], name=op.f("fk_audiences_partner_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audiences")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_audiences_live",
        "audiences",
        ["owner_id", "segment_id"],
        unique=True,
        sqlite_where=sa.text("state <> 'deleted'"),
        postgresql_where=sa.text("state <> 'deleted'"),
    )
    op.create_table(
        "data_subject_requests",
        sa.Column("seq", _ROW_ID, nullable=False),
        sa.Column("transaction_id", sa.String(length=32), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("account_id", _ROW_ID, nullable=True),
        sa.Column("jurisdiction", sa.String(length=16), nullable=True),
        sa.Column("submitter", sa.String(length=256), nullable=True),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("applied_at_s", sa.Float(), nullable=True),
        sa.CheckConstraint(
            "action in ('RESTRICT', 'ERASURE')", name=op.f("ck_data_subject_requests_action")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_data_subject_requests_account_id")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_data_subject_requests")),
        sa.UniqueConstraint("transaction_id", name=op.f("uq_data_subject_requests_transaction_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_data_subject_requests_unapplied",
        "data_subject_requests",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("applied_at_s is null"),
        postgresql_where=sa.text("applied_at_s is null"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("transaction_id", sa.String(length=32), nullable=False),
        sa.Column("door", sa.String(length=32), nullable=False),
        sa.Column("partner_id", _ROW_ID, nullable=False),
        sa.Column("owner_id", _ROW_ID, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("blob", sa.String(length=1024), nullable=False),
        sa.Column("file_name", sa.String(length=256), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("lease_owner", sa.String(length=128), nullable=True),
        sa.Column("lease_until_s", sa.Float(), nullable=True),
        sa.Column("checkpoint", sa.JSON(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.Column("error_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(length=512), nullable=True),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("started_at_s", sa.Float(), nullable=True),
        sa.Column("finished_at_s", sa.Float(), nullable=True),
        sa.CheckConstraint(
            "state in ('queued', 'running', 'held', 'done', 'failed')", name=op.f("ck_jobs_state")
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["accounts.id"], name=op.f("fk_jobs_owner_id")),
        sa.ForeignKeyConstraint(["partner_id"], ["accounts.id"], name=op.f("fk_jobs_partner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("transaction_id", name=op.f("uq_jobs_transaction_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_partner_state", "jobs", ["partner_id", "state", "id"], unique=False)
    op.create_table(
        "recipient_grants",
        sa.Column("recipient_id", _ROW_ID, nullable=False),
        sa.Column("partner_id", _ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["accounts.id"], name=op.f("fk_recipient_grants_partner_id")
        ),
        sa.ForeignKeyConstraint(
            ["recipient_id"], ["recipients.id"], name=op.f("fk_recipient_grants_recipient_id")
        ),
        sa.PrimaryKeyConstraint("recipient_id", "partner_id", name=op.f("pk_recipient_grants")),
    )
    op.create_table(
        "data_subject_ids",
        sa.Column("seq", _ROW_ID, nullable=False),
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(
            ["seq"], ["data_subject_requests.seq"], name=op.f("fk_data_subject_ids_seq")
        ),
        sa.PrimaryKeyConstraint("seq", "id", name=op.f("pk_data_subject_ids")),
    )
    op.create_index("ix_data_subject_ids_id", "data_subject_ids", ["id"], unique=False)
    # A number that no other ledger reached, so that another ledger's store never looks up to
    # date.
    op.bulk_insert(catalog_revision, [{"id": 1, "revision": int(time.time())}])
