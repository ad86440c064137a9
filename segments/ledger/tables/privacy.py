"""The Privacy API's: who may submit, what was asked for, and the trail of it all."""

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
    # Bearer tokens of the Privacy API; of each its SHA-256 alone.
    Column("id", RowId, primary_key=True),  # `userId` in answers
    Column("token_sha256", LargeBinary(32), nullable=False, unique=True),
    Column("account_id", ForeignKey("accounts.id")),  # for whom it acts; none: global
    Column("is_internal", Boolean, nullable=False),  # may ask for reports, and search
    Column("note", String(128), nullable=False),  # whose it is, for people
    Column("created_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("revoked_at_s", BigInteger),
    sqlite_autoincrement=True,
)

privacy_keys = Table(
    "privacy_keys",
    metadata,
    # RSA keys that the JWTs of the Privacy API's legacy doors are signed with.
    Column("id", RowId, primary_key=True),
    Column("domain", String(253), nullable=False),  # `iss` is CN=<domain>
    Column("kid", String(128), nullable=False),  # `cnf.kid`
    Column("public_key", Text, nullable=False),  # PEM
    Column("account_id", ForeignKey("accounts.id")),  # for whom it acts; none: global
    Column("is_internal", Boolean, nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("revoked_at_s", BigInteger),
    # A revoked key keeps its row and its number; its name may be used anew.
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
    # Requests of such JWTs that were taken: none is taken twice.
    Column("key_id", ForeignKey("privacy_keys.id"), primary_key=True),
    Column("digest", LargeBinary(32), primary_key=True),  # of `jti` and `dsr`
    Column("expires_at_s", BigInteger, nullable=False),
    Index("ix_privacy_jwts_expires_at_s", "expires_at_s"),
)

access_requests = Table(
    "access_requests",
    metadata,
    # What persons asked us to tell them. Apart from `data_subject_requests`, whose numbers are
    # the order in which the store applies them: there is nothing of these to apply.
    Column("id", RowId, primary_key=True),
    Column("transaction_id", String(32), nullable=False, unique=True),
    Column("account_id", ForeignKey("accounts.id")),  # what is told of; none: everything
    Column("jurisdiction", String(16)),
    Column("submitter", String(256)),
    Column("callback", String(2048)),
    Column("token_id", ForeignKey("privacy_tokens.id")),
    Column("key_id", ForeignKey("privacy_keys.id")),
    Column("created_at_s", Float, nullable=False),
    Column(
        "state", String(16), nullable=False
    ),  # segments.ledger.privacy.access_requests.AccessRequestState
    # Raised by every ERASURE of one of its ids: a report that was begun before is not kept.
    Column("version", Integer, nullable=False),
    Column("blob", String(256)),  # the report
    Column("stale_blob", String(256)),  # a report that was withdrawn, still to be deleted
    Column("told_at_s", Float),  # when its callback was noted
    Column("expires_at_s", Float),  # when the report is deleted
    CheckConstraint("state in ('pending', 'completed', 'expired')", name="state"),
    # Asked for every second; nearly always empty, or few.
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
    Column("tail", LargeBinary(16)),  # as of `data_subject_ids`
    Index("ix_access_request_ids_id", "id"),
)

audit = Table(
    "audit",
    metadata,
    # Who did what with whose data, or was refused. Triggers keep rows from being changed.
    Column("id", RowId, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("actor", String(16), nullable=False),  # segments.ledger.privacy.audit.Actor
    Column("actor_name", String(400)),  # the token's number; the key's domain/kid
    Column("account_id", ForeignKey("accounts.id")),  # the actor's; none: global, or nobody's
    Column("what", String(32), nullable=False),
    Column("result", String(16), nullable=False),
    Column("reason", String(128)),
    Column("scope_id", ForeignKey("accounts.id")),  # what it reaches; none: everything
    Column("transaction_id", String(32)),
    Column("subjects", JSON, nullable=False),  # salted digests of the ids
    Column("times", Integer, nullable=False),  # so many alike, of which this one is written
    # Of what people do by their own hand, `segments.acts`: to what, and how; never a secret.
    Column("target", String(512)),
    Column("detail", JSON(none_as_null=True)),
    CheckConstraint("result in ('done', 'refused')", name="result"),
    Index("ix_audit_at_s", "at_s"),
    sqlite_autoincrement=True,
)
