"""The console: staff, the sessions of its browsers, and the processes that it shows."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from segments.ledger.tables.base import RowId, metadata

staff = Table(
    "staff",
    metadata,
    # The deployment's people; partners' are `users`. No name is in both.
    Column("id", RowId, primary_key=True),
    Column("username", String(128), nullable=False, unique=True),
    Column("password_hash", String(256), nullable=False),  # argon2, with its parameters
    Column("roles", String(64), nullable=False),  # segments.model.role.Role, with spaces between
    Column("account_id", ForeignKey("accounts.id")),  # of a privacy desk; null: the deployment
    Column("totp_secret", String(64)),  # Base32; null: made at the next login
    # The last accepted code's 30 seconds (RFC 6238, 5.2); null: not enrolled.
    Column("totp_step", BigInteger),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at_s", BigInteger, nullable=False),
    Column("time_zone", String(64)),  # in which the console shows times; null: UTC
    sqlite_autoincrement=True,
)

console_sessions = Table(
    "console_sessions",
    metadata,
    # A browser's login, by the SHA-256 of its cookie.
    Column("token_sha256", LargeBinary(32), primary_key=True),
    Column("user_id", ForeignKey("users.id"), index=True),
    Column("staff_id", ForeignKey("staff.id"), index=True),
    Column("created_at_s", BigInteger, nullable=False),
    Column("seen_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False, index=True),  # however busy it is
    # The last proof; null: staff's password was right, the code is missing.
    Column("proven_at_s", BigInteger),
    CheckConstraint("(user_id is null) <> (staff_id is null)", name="one_person"),
)

processes = Table(
    "processes",
    metadata,
    # The control plane's processes; each renews its row.
    Column("id", RowId, primary_key=True),
    Column("kind", String(32), nullable=False),  # segments.ledger.processes.ProcessKind
    Column("host", String(255), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("version", String(64), nullable=False),
    Column("started_at_s", BigInteger, nullable=False),
    Column("seen_at_s", BigInteger, nullable=False),
    Column("unready", Text, nullable=False),  # why it can't do its work; empty: it can
    sqlite_autoincrement=True,
)
