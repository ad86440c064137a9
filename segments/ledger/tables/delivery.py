"""Partners' logins and deliveries: SFTP, presigned uploads, callbacks."""

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
    Column("account_id", ForeignKey("accounts.id"), nullable=False),  # the partner
    Column("fingerprint", String(64), nullable=False),  # SHA256:..., as `ssh-keygen -l` prints it
    Column("public_key", String(4096), nullable=False),  # as in an `authorized_keys` file
    Column("comment", String(256), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("used_at_s", BigInteger),  # segments.ledger.last_used
    UniqueConstraint("account_id", "fingerprint"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    # A metadata file of the LiveAudience door, until its last answer.
    Column("id", RowId, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),  # of the folder
    Column("name", String(256), nullable=False),  # of <name>.json and <name>.status
    Column("transaction_id", String(32), nullable=False, unique=True),
    Column("metadata", JSON, nullable=False),  # validated
    Column("received_at_s", Float, nullable=False),
    Column("job_id", ForeignKey("jobs.id")),  # null: waits for its data file
    Column("answered_at_s", Float),  # null: the last answer is pending
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
    # A row is deleted once delivered or given up.
    Column("id", RowId, primary_key=True),
    Column("transaction_id", String(32)),  # a later status replaces an earlier status
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
    Column("account_id", ForeignKey("accounts.id"), nullable=False),  # that they act for
    Column("password_hash", String(256), nullable=False),  # argon2, with its parameters
    # May manage the account's keys and logins in the console.
    Column("is_admin", Boolean, nullable=False, server_default=text("false")),
    # The password was generated, and handed over by another person.
    Column("must_change", Boolean, nullable=False, server_default=text("false")),
    Column("time_zone", String(64)),  # in which the console shows times; null: UTC
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at_s", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

sessions = Table(
    "sessions",
    metadata,
    # A login. Its access tokens end with it.
    Column("id", RowId, primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False, index=True),
    # The refresh token's first part; the second is stored as a hash.
    Column("handle", String(16), nullable=False, unique=True),
    Column("secret_sha256", LargeBinary(32), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

throttles = Table(
    "throttles",
    metadata,
    # See `segments.ledger.throttles`.
    Column("kind", String(32), primary_key=True),
    Column("name_sha256", LargeBinary(32), primary_key=True),
    Column("until_ms", BigInteger, nullable=False, index=True),  # when the bucket is empty
)

external_ids = Table(
    "external_ids",
    metadata,
    # Of the audience in other systems, unique for the owner.
    Column("owner_id", ForeignKey("accounts.id"), primary_key=True),
    Column("external_id", String(256), primary_key=True),
    Column("audience_id", ForeignKey("audiences.id"), nullable=False),
    Index("ix_external_ids_audience_id", "audience_id"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("request_id", String(32), nullable=False, unique=True),
    Column("key", String(32), nullable=False, unique=True),  # unguessable; in the URL's path
    Column("account_id", ForeignKey("accounts.id"), nullable=False),  # that requested it
    Column("audience_id", ForeignKey("audiences.id"), nullable=False),
    Column("file_name", String(256), nullable=False),
    Column("action", String(8), nullable=False),  # segments.model.order.SegmentAction
    Column("hash_type", String(8), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("job_id", ForeignKey("jobs.id")),  # null: has not arrived
    # Queried every few seconds where files arrive in a bucket.
    Index("ix_uploads_expires_at_s", "expires_at_s"),
    Index("ix_uploads_audience_id_id", "audience_id", "id"),
    sqlite_autoincrement=True,
)
