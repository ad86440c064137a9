"""The Privacy API: tokens, keys and spent JWTs, access requests, the audit trail."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_APPEND_ONLY_SQLITE = """
create trigger audit_{event} before {event} on audit
begin select raise(abort, 'the audit trail is append-only'); end
"""

_APPEND_ONLY_POSTGRESQL = (
    """
create function audit_is_append_only() returns trigger language plpgsql as
$$ begin raise exception 'the audit trail is append-only'; end $$
""",
    """
create trigger audit_change before update or delete or truncate on audit
for each statement execute function audit_is_append_only()
""",
)


def upgrade() -> None:
    """Create the tables, and extend those of the data subject requests."""
    _credentials()
    _grow_requests()
    _access_requests()
    _audit()


def _credentials() -> None:
    op.create_table(
        "privacy_tokens",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("account_id", _ROW_ID, nullable=True),
        sa.Column("is_internal", sa.Boolean(), nullable=False),
        sa.Column("note", sa.String(length=128), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_s", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at_s", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_privacy_tokens_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_privacy_tokens")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_privacy_tokens_token_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "privacy_keys",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("domain", sa.String(length=253), nullable=False),
        sa.Column("kid", sa.String(length=128), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("account_id", _ROW_ID, nullable=True),
        sa.Column("is_internal", sa.Boolean(), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at_s", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_privacy_keys_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_privacy_keys")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_privacy_keys_live",
        "privacy_keys",
        ["domain", "kid"],
        unique=True,
        sqlite_where=sa.text("revoked_at_s is null"),
        postgresql_where=sa.text("revoked_at_s is null"),
    )
    op.create_table(
        "privacy_jwts",
        sa.Column("key_id", _ROW_ID, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("expires_at_s", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["privacy_keys.id"], name=op.f("fk_privacy_jwts_key_id")
        ),
        sa.PrimaryKeyConstraint("key_id", "digest", name=op.f("pk_privacy_jwts")),
    )
    op.create_index("ix_privacy_jwts_expires_at_s", "privacy_jwts", ["expires_at_s"])


def _grow_requests() -> None:
    op.add_column("data_subject_requests", sa.Column("callback", sa.String(length=2048)))
    op.add_column("data_subject_requests", sa.Column("token_id", sa.BigInteger()))
    op.add_column("data_subject_requests", sa.Column("key_id", sa.BigInteger()))
    op.create_index(
        "ix_data_subject_requests_created_at_s", "data_subject_requests", ["created_at_s"]
    )
    op.add_column("data_subject_ids", sa.Column("tail", sa.LargeBinary(length=16)))


def _access_requests() -> None:
    op.create_table(
        "access_requests",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("transaction_id", sa.String(length=32), nullable=False),
        sa.Column("account_id", _ROW_ID, nullable=True),
        sa.Column("jurisdiction", sa.String(length=16), nullable=True),
        sa.Column("submitter", sa.String(length=256), nullable=True),
        sa.Column("callback", sa.String(length=2048), nullable=True),
        sa.Column("token_id", _ROW_ID, nullable=True),
        sa.Column("key_id", _ROW_ID, nullable=True),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("blob", sa.String(length=256), nullable=True),
        sa.Column("stale_blob", sa.String(length=256), nullable=True),
        sa.Column("told_at_s", sa.Float(), nullable=True),
        sa.Column("expires_at_s", sa.Float(), nullable=True),
        sa.CheckConstraint(
            "state in ('pending', 'completed', 'expired')", name=op.f("ck_access_requests_state")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_access_requests_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["token_id"], ["privacy_tokens.id"], name=op.f("fk_access_requests_token_id")
        ),
        sa.ForeignKeyConstraint(
            ["key_id"], ["privacy_keys.id"], name=op.f("fk_access_requests_key_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_requests")),
        sa.UniqueConstraint("transaction_id", name=op.f("uq_access_requests_transaction_id")),
        sqlite_autoincrement=True,
    )
    unfinished = sa.text("state <> 'expired' or stale_blob is not null")
    op.create_index(
        "ix_access_requests_unfinished",
        "access_requests",
        ["id"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    op.create_table(
        "access_request_ids",
        sa.Column("request_id", _ROW_ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("tail", sa.LargeBinary(length=16), nullable=True),
        sa.ForeignKeyConstraint(
            ["request_id"], ["access_requests.id"], name=op.f("fk_access_request_ids_request_id")
        ),
        sa.PrimaryKeyConstraint("request_id", "position", name=op.f("pk_access_request_ids")),
    )
    op.create_index("ix_access_request_ids_id", "access_request_ids", ["id"])


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(length=16), nullable=False),
        sa.Column("actor_name", sa.String(length=400), nullable=True),
        sa.Column("account_id", _ROW_ID, nullable=True),
        sa.Column("what", sa.String(length=32), nullable=False),
        sa.Column("result", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=128), nullable=True),
        sa.Column("scope_id", _ROW_ID, nullable=True),
        sa.Column("transaction_id", sa.String(length=32), nullable=True),
        sa.Column("subjects", sa.JSON(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.CheckConstraint("result in ('done', 'refused')", name=op.f("ck_audit_result")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_audit_account_id")),
        sa.ForeignKeyConstraint(["scope_id"], ["accounts.id"], name=op.f("fk_audit_scope_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_at_s", "audit", ["at_s"])
    if op.get_bind().dialect.name == "sqlite":
        for event in ("update", "delete"):
            op.execute(_APPEND_ONLY_SQLITE.format(event=event))
    else:
        for statement in _APPEND_ONLY_POSTGRESQL:
            op.execute(statement)
