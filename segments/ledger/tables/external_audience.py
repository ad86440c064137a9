"""
External audiences: orgs and sandboxes, base connections, audiences and their runs.

Also idempotency keys, which make creation repeatable at every door.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from segments.ledger.tables.base import RowId, metadata

org_sandboxes = Table(
    "org_sandboxes",
    metadata,
    # `x-gw-ims-org-id` and `x-sandbox-name`. Sandboxes share nothing.
    Column("id", RowId, primary_key=True),
    Column("ims_org_id", String(128), nullable=False),
    Column("name", String(64), nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),  # the audiences' owner
    Column("created_at_s", BigInteger, nullable=False),
    UniqueConstraint("ims_org_id", "name"),
    sqlite_autoincrement=True,
)

org_credentials = Table(
    "org_credentials",
    metadata,
    # `x-api-key` and `Authorization`, for a sandbox.
    Column("id", RowId, primary_key=True),
    Column("sandbox_id", ForeignKey("org_sandboxes.id"), nullable=False),
    Column("api_key", String(32), nullable=False, unique=True),
    Column("token_sha256", LargeBinary(32), nullable=False, unique=True),
    Column("user_id", String(128), nullable=False),  # `createdBy` of its requests
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at_s", BigInteger, nullable=False),
    Column("used_at_s", BigInteger),  # segments.ledger.last_used
    sqlite_autoincrement=True,
)

base_connections = Table(
    "base_connections",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("public_id", String(36), nullable=False, unique=True),  # `baseConnectionId`
    Column("sandbox_id", ForeignKey("org_sandboxes.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("url", String(1024), nullable=False),
    Column("options", JSON, nullable=False),  # of obstore; `env:NAME` for secrets
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at_s", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

external_audiences = Table(
    "external_audiences",
    metadata,
    # A requested creation, and the resulting audience.
    Column("id", RowId, primary_key=True),
    Column("public_id", String(36), nullable=False, unique=True),  # `audienceId`
    Column("operation_id", String(36), nullable=False, unique=True),
    Column("sandbox_id", ForeignKey("org_sandboxes.id"), nullable=False),
    Column("connection_id", ForeignKey("base_connections.id"), nullable=False),
    Column("namespace", String(256), nullable=False),
    Column("name", String(256), nullable=False),
    Column("custom_id", String(256)),  # `customAudienceId`
    Column("ttl_days", Integer, nullable=False),
    Column("spec", JSON, nullable=False),  # the other members of the request, unchanged
    # segments.ledger.external_audience.audiences.Status
    Column("status", String(16), nullable=False),
    Column("error", String(512)),  # the cause of a failure
    Column("audience_id", ForeignKey("audiences.id")),  # once created
    Column("created_by", String(128), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("updated_by", String(128), nullable=False),
    Column("updated_at_s", BigInteger, nullable=False),
    Column("deleted_at_s", BigInteger),
    CheckConstraint("status in ('PROCESSING', 'SUCCESS', 'FAILED')", name="status"),
    # A name can be reused after a failed creation or a deletion.
    Index(
        "uq_external_audiences_name",
        "sandbox_id",
        "namespace",
        "name",
        unique=True,
        sqlite_where=text("status <> 'FAILED' and deleted_at_s is null"),
        postgresql_where=text("status <> 'FAILED' and deleted_at_s is null"),
    ),
    Index(
        "uq_external_audiences_custom_id",
        "sandbox_id",
        "custom_id",
        unique=True,
        sqlite_where=text("status <> 'FAILED' and deleted_at_s is null"),
        postgresql_where=text("status <> 'FAILED' and deleted_at_s is null"),
    ),
    sqlite_autoincrement=True,
)

external_runs = Table(
    "external_runs",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("public_id", String(36), nullable=False, unique=True),  # `runId`
    Column("external_audience_id", ForeignKey("external_audiences.id"), nullable=False),
    Column("sandbox_id", ForeignKey("org_sandboxes.id"), nullable=False),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("is_differential", Boolean, nullable=False),
    Column("filter_start_s", BigInteger, nullable=False),
    Column("filter_end_s", BigInteger, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    # segments.ingest.external_audience.collect.Collected, once all files are read
    Column("collected", JSON),
    Index("ix_external_runs_audience", "external_audience_id", "id"),
    Index("ix_external_runs_sandbox", "sandbox_id", "created_at_s"),
    sqlite_autoincrement=True,
)

external_run_files = Table(
    "external_run_files",
    metadata,
    Column("run_id", ForeignKey("external_runs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("path", String(1024), nullable=False),  # relative to the connection
    Column("version", String(128), nullable=False),  # changes with the content
    Column("size_bytes", BigInteger, nullable=False),
    Column("modified_at_s", Float, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    # See `segments.ledger.idempotency_keys`.
    Column("scope", String(128), primary_key=True),  # the caller and the call
    Column("key", String(255), primary_key=True),
    Column("request_sha256", LargeBinary(32), nullable=False),
    Column("status", Integer),  # null: in progress
    Column("body", Text),
    Column("created_at_s", Float, nullable=False, index=True),
)
