"""How partners come in, and what they deliver: SFTP, presigned uploads, callbacks."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
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

ssh_keys = Table(
    "ssh_keys",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),  # who may log in with it
    Column("fingerprint", String(64), nullable=False),  # SHA256:..., as `ssh-keygen -l` prints it
    Column("public_key", String(4096), nullable=False),  # as in an `authorized_keys` file
    Column("comment", String(256), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    UniqueConstraint("account_id", "fingerprint"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    # A metadata file of the LiveAudience door, from its acceptance to its last answer.
    Column("id", RowId, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),  # in whose folder
    Column("name", String(256), nullable=False),  # <name>.json came, <name>.status answers
    Column("transaction_id", String(32), nullable=False, unique=True),
    Column("metadata", JSON, nullable=False),  # as delivered, validated
    Column("received_at_s", Float, nullable=False),
    Column("job_id", ForeignKey("jobs.id")),  # none: waits for its data file
    Column("answered_at_s", Float),  # none: the last answer is still to be given
    Index(
        "ix_deliveries_unanswered",
        "id",
        sqlite_where=text("answered_at_s is null"),
        postgresql_where=text("answered_at_s is null"),
    ),
    sqlite_autoincrement=True,
)

callbacks = Table(
    "callbacks",
    metadata,
    # Statuses that are still to be POSTed; a row goes when that is done or given up.
    Column("id", RowId, primary_key=True),
    Column("transaction_id", String(32)),  # a later status of the same replaces an earlier
    Column("url", String(2048), nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("due_at_s", Float, nullable=False),
    sqlite_autoincrement=True,
)

secrets = Table(
    "secrets",
    metadata,
    # What our own signatures are made with: drawn once, shared by all replicas.
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary(64), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("public_id", String(32), nullable=False, unique=True),  # `userId` in answers
    Column("username", String(128), nullable=False, unique=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),  # for whom they act
    Column("password_hash", String(256), nullable=False),  # argon2, with its parameters
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at_s", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

sessions = Table(
    "sessions",
    metadata,
    # One login. Its access tokens name it, so ending it ends them all at once.
    Column("id", RowId, primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False, index=True),
    # The first half of the refresh token names the session; of the second half, its hash.
    Column("handle", String(16), nullable=False, unique=True),
    Column("secret_sha256", LargeBinary(32), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

external_ids = Table(
    "external_ids",
    metadata,
    # What an owner calls an audience elsewhere, if it says so; none has two of the same.
    Column("owner_id", ForeignKey("accounts.id"), primary_key=True),
    Column("external_id", String(256), primary_key=True),
    Column("audience_id", ForeignKey("audiences.id"), nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    # URLs that were given out for one upload each.
    Column("id", RowId, primary_key=True),
    Column("request_id", String(32), nullable=False, unique=True),
    Column("key", String(32), nullable=False, unique=True),  # unguessable; in the URL's path
    Column("account_id", ForeignKey("accounts.id"), nullable=False),  # who asked for it
    Column("audience_id", ForeignKey("audiences.id"), nullable=False),
    Column("file_name", String(256), nullable=False),
    Column("action", String(8), nullable=False),  # segments.model.order.SegmentAction
    Column("hash_type", String(8), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("job_id", ForeignKey("jobs.id")),  # none: has not arrived
    # Asked for every few seconds where files come by a bucket.
    Index("ix_uploads_expires_at_s", "expires_at_s"),
    sqlite_autoincrement=True,
)
