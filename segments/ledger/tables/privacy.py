"""The Privacy API: credentials, requests, and the audit trail."""

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
    text,
)

from segments.ledger.tables.base import RowId, metadata

privacy_tokens = Table(
    "privacy_tokens",
    metadata,
    Column("id", RowId, primary_key=True),  # `userId` in answers
    Column("token_sha256", LargeBinary(32), nullable=False, unique=True),
    Column("account_id", ForeignKey("accounts.id")),  # that it acts for; null: global
    Column("is_internal", Boolean, nullable=False),  # may ask for reports, and search
    Column("note", String(128), nullable=False),  # the holder, for people
    Column("created_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("revoked_at_s", BigInteger),
    Column("used_at_s", BigInteger),  # segments.ledger.last_used
    sqlite_autoincrement=True,
)

privacy_keys = Table(
    "privacy_keys",
    metadata,
    # RSA keys for the JWTs of the Privacy API's legacy doors.
    Column("id", RowId, primary_key=True),
    Column("domain", String(253), nullable=False),  # `iss` is CN=<domain>
    Column("kid", String(128), nullable=False),  # `cnf.kid`
    Column("public_key", Text, nullable=False),  # PEM
    Column("account_id", ForeignKey("accounts.id")),  # that it acts for; null: global
    Column("is_internal", Boolean, nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("revoked_at_s", BigInteger),
    Column("used_at_s", BigInteger),  # segments.ledger.last_used
    # A revoked key keeps its row; its name may be reused.
    Index(
        "uq_privacy_keys_live",
        "domain",
        "kid",
        unique=True,
        sqlite_where=text("revoked_at_s is null"),
        postgresql_where=text("revoked_at_s is null"),
    ),
    sqlite_autoincrement=True,
)

privacy_jwts = Table(
    "privacy_jwts",
    metadata,
    # Accepted requests with such JWTs.
    Column("key_id", ForeignKey("privacy_keys.id"), primary_key=True),
    Column("digest", LargeBinary(32), primary_key=True),  # of `jti` and `dsr`
    Column("expires_at_s", BigInteger, nullable=False),
    Index("ix_privacy_jwts_expires_at_s", "expires_at_s"),
)

access_requests = Table(
    "access_requests",
    metadata,
    # Persons' requests for their data, apart from `data_subject_requests`, whose numbers are the
    # order in which the store applies them.
    Column("id", RowId, primary_key=True),
    Column("transaction_id", String(32), nullable=False, unique=True),
    Column("account_id", ForeignKey("accounts.id")),  # whose data to report; null: all data
    Column("jurisdiction", String(16)),
    Column("submitter", String(256)),
    Column("reference", String(128)),  # the privacy desk's own, such as its ticket
    Column("callback", String(2048)),
    Column("token_id", ForeignKey("privacy_tokens.id")),
    Column("key_id", ForeignKey("privacy_keys.id")),
    Column("created_at_s", Float, nullable=False),
    Column(
        "state", String(16), nullable=False
    ),  # segments.ledger.privacy.access_requests.AccessRequestState
    # Raised by every ERASURE of any of its ids; an older report is rejected.
    Column("version", Integer, nullable=False),
    Column("blob", String(256)),  # the report
    Column("stale_blob", String(256)),  # a withdrawn report, still to be deleted
    Column("told_at_s", Float),  # when its callback was recorded
    Column("expires_at_s", Float),  # when the report is deleted
    CheckConstraint("state in ('pending', 'completed', 'expired')", name="state"),
    # Queried every second; nearly always empty, or few rows.
    Index(
        "ix_access_requests_unfinished",
        "id",
        sqlite_where=text("state <> 'expired' or stale_blob is not null"),
        postgresql_where=text("state <> 'expired' or stale_blob is not null"),
    ),
    sqlite_autoincrement=True,
)

access_request_ids = Table(
    "access_request_ids",
    metadata,
    Column("request_id", ForeignKey("access_requests.id"), primary_key=True),
    Column("position", Integer, primary_key=True),  # as submitted, from 1; its name in the report
    Column("id", LargeBinary(16), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("tail", LargeBinary(16)),  # as in `data_subject_ids`
    Index("ix_access_request_ids_id", "id"),
)

audit = Table(
    "audit",
    metadata,
    # Acts on data, done or refused. Triggers prevent changes of rows.
    Column("id", RowId, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("actor", String(16), nullable=False),  # segments.ledger.privacy.audit.Actor
    Column("actor_name", String(400)),  # the token's number; the key's domain/kid
    Column("account_id", ForeignKey("accounts.id")),  # the actor's; null: global, or unknown
    Column("what", String(32), nullable=False),
    Column("result", String(16), nullable=False),
    Column("reason", String(128)),
    Column("scope_id", ForeignKey("accounts.id")),  # null: everything
    Column("transaction_id", String(32)),
    Column("subjects", JSON, nullable=False),  # salted digests of the ids
    Column("times", Integer, nullable=False),  # how many like acts this row stands for
    # Of `segments.acts`: the target and the parameters; never a secret.
    Column("target", String(512)),
    Column("detail", JSON(none_as_null=True)),
    CheckConstraint("result in ('done', 'refused')", name="result"),
    Index("ix_audit_at_s", "at_s"),
    Index("ix_audit_scope_id_id", "scope_id", "id"),
    Index("ix_audit_what_id", "what", "id"),
    Index("ix_audit_transaction_id", "transaction_id"),
    sqlite_autoincrement=True,
)
