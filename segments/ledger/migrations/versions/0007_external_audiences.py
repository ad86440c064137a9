"""External audiences: orgs and their credentials, base connections, runs; idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_HOLDS_ITS_NAME = sa.text("status <> 'FAILED' and deleted_at_s is null")


def upgrade() -> None:
    """Create the tables."""
    _make_orgs()
    _make_audiences()
    _make_runs()
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.String(length=128), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(
        op.f("ix_idempotency_keys_created_at_s"), "idempotency_keys", ["created_at_s"], unique=False
    )


def _make_orgs() -> None:
    op.create_table(
        "org_sandboxes",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("ims_org_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("account_id", _ROW_ID, nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_org_sandboxes_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_org_sandboxes")),
        sa.UniqueConstraint("ims_org_id", "name", name=op.f("uq_org_sandboxes_ims_org_id_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "org_credentials",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("sandbox_id", _ROW_ID, nullable=False),
        sa.Column("api_key", sa.String(length=32), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sandbox_id"], ["org_sandboxes.id"], name=op.f("fk_org_credentials_sandbox_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_org_credentials")),
        sa.UniqueConstraint("api_key", name=op.f("uq_org_credentials_api_key")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_org_credentials_token_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "base_connections",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("sandbox_id", _ROW_ID, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("url", sa.String(length=1024), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sandbox_id"], ["org_sandboxes.id"], name=op.f("fk_base_connections_sandbox_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base_connections")),
        sa.UniqueConstraint("public_id", name=op.f("uq_base_connections_public_id")),
        sqlite_autoincrement=True,
    )


def _make_audiences() -> None:
    op.create_table(
        "external_audiences",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("operation_id", sa.String(length=36), nullable=False),
        sa.Column("sandbox_id", _ROW_ID, nullable=False),
        sa.Column("connection_id", _ROW_ID, nullable=False),
        sa.Column("namespace", sa.String(length=256), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("custom_id", sa.String(length=256), nullable=True),
        sa.Column("ttl_days", sa.Integer(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error", sa.String(length=512), nullable=True),
        sa.Column("audience_id", _ROW_ID, nullable=True),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at_s", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at_s", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "status in ('PROCESSING', 'SUCCESS', 'FAILED')",
            name=op.f("ck_external_audiences_status"),
        ),
        sa.ForeignKeyConstraint(
            ["sandbox_id"], ["org_sandboxes.id"], name=op.f("fk_external_audiences_sandbox_id")
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["base_connections.id"],
            name=op.f("fk_external_audiences_connection_id"),
        ),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("fk_external_audiences_audience_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_external_audiences")),
        sa.UniqueConstraint("public_id", name=op.f("uq_external_audiences_public_id")),
        sa.UniqueConstraint("operation_id", name=op.f("uq_external_audiences_operation_id")),
        sqlite_autoincrement=True,
    )
    for name, columns in (
        ("uq_external_audiences_name", ["sandbox_id", "namespace", "name"]),
        ("uq_external_audiences_custom_id", ["sandbox_id", "custom_id"]),
    ):
        op.create_index(
            name,
            "external_audiences",
            columns,
            unique=True,
            sqlite_where=_HOLDS_ITS_NAME,
            postgresql_where=_HOLDS_ITS_NAME,
        )


def _make_runs() -> None:
    op.create_table(
        "external_runs",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("public_id", sa.String(length=36), nullable=False),
        sa.Column("external_audience_id", _ROW_ID, nullable=False),
        sa.Column("sandbox_id", _ROW_ID, nullable=False),
        sa.Column("job_id", _ROW_ID, nullable=False),
        sa.Column("is_differential", sa.Boolean(), nullable=False),
        sa.Column("filter_start_s", sa.BigInteger(), nullable=False),
        sa.Column("filter_end_s", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.Column("collected", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["external_audience_id"],
            ["external_audiences.id"],
            name=op.f("fk_external_runs_external_audience_id"),
        ),
        sa.ForeignKeyConstraint(
            ["sandbox_id"], ["org_sandboxes.id"], name=op.f("fk_external_runs_sandbox_id")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_external_runs_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_external_runs")),
        sa.UniqueConstraint("public_id", name=op.f("uq_external_runs_public_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_external_runs_audience", "external_runs", ["external_audience_id", "id"], unique=False
    )
    op.create_index(
        "ix_external_runs_sandbox", "external_runs", ["sandbox_id", "created_at_s"], unique=False
    )
    op.create_table(
        "external_run_files",
        sa.Column("run_id", _ROW_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("modified_at_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["external_runs.id"], name=op.f("fk_external_run_files_run_id")
        ),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_external_run_files")),
    )
