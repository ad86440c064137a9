"""
The ledger's tables: the system of record.

The membership store is a projection of what stands here and in the blobs, so a
lost Redis loses nothing, and an opt-out outlives every store. The same
definitions serve SQLite and PostgreSQL; `migrations/` brings a database to
them, and a test compares the two.

Ids that reach the store (accounts, audiences, recipients) are small integers
that are never used twice: rows are marked, not deleted, and SQLite's
`AUTOINCREMENT` keeps a number from coming back even so. Times are unix seconds.
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
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows only where the type is exactly INTEGER.
_RowId = BigInteger().with_variant(Integer, "sqlite")

accounts = Table(
    "accounts",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("kind", String(16), nullable=False),  # segments.account.Kind
    # What the account is called in files and bid requests: partner_id, sub_id, publisher.id.
    Column("public_id", String(128), nullable=False),
    # Among which accounts that is unambiguous: segments.account.id_space.
    Column("id_space", String(32), nullable=False),
    Column("name", String(256), nullable=False),
    # An agency of a sub account, or the media group of a publisher or an advertiser.
    Column("parent_id", ForeignKey("accounts.id")),
    Column("segtax", Integer),  # Data.ext.segtax of its segments, none if proprietary
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at_s", BigInteger, nullable=False),
    CheckConstraint("kind in ('agency', 'advertiser', 'publisher', 'media_group')", name="kind"),
    UniqueConstraint("id_space", "public_id"),
    sqlite_autoincrement=True,
)

account_relations = Table(
    "account_relations",
    metadata,
    Column("publisher_id", ForeignKey("accounts.id"), primary_key=True),
    Column("advertiser_id", ForeignKey("accounts.id"), primary_key=True),
)

recipients = Table(
    "recipients",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),  # as in the URL
    Column("hold_out", Float, nullable=False, server_default=text("0")),  # fraction of persons
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at_s", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

recipient_grants = Table(
    "recipient_grants",
    metadata,
    Column("recipient_id", ForeignKey("recipients.id"), primary_key=True),
    Column("partner_id", ForeignKey("accounts.id"), primary_key=True),
)

audiences = Table(
    "audiences",
    metadata,
    Column("id", _RowId, primary_key=True),
    # The advertiser whose persons these are; for an agency's sub_id, the sub account.
    Column("owner_id", ForeignKey("accounts.id"), nullable=False),
    # Whose `Data` object shows it: the owner, or the owner's agency.
    Column("partner_id", ForeignKey("accounts.id"), nullable=False),
    Column("segment_id", String(64), nullable=False),  # as shown in a bid request
    Column("name", String(256), nullable=False),
    Column("state", String(16), nullable=False),  # segments.audience.State
    Column("live_from_s", BigInteger),  # activation window; none: no bound
    Column("live_until_s", BigInteger),
    Column("ttl_days", Integer),  # how long a membership holds; none: for good
    Column("created_at_s", BigInteger, nullable=False),
    Column("updated_at_s", BigInteger, nullable=False),
    CheckConstraint("state in ('active', 'deactivated', 'deleted')", name="state"),
    # A deleted audience keeps its row and its number; its segment id may be used anew.
    Index(
        "uq_audiences_live",
        "owner_id",
        "segment_id",
        unique=True,
        sqlite_where=text("state <> 'deleted'"),
        postgresql_where=text("state <> 'deleted'"),
    ),
    sqlite_autoincrement=True,
)

catalog_revision = Table(
    "catalog_revision",
    metadata,
    # One row. Raised by every change of the tables above, in the same transaction. It starts at
    # the unix time of creation, so no store filled by another ledger looks up to date.
    Column("id", Integer, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _RowId, primary_key=True),  # also the order in which a partner's files apply
    Column("transaction_id", String(32), nullable=False, unique=True),
    Column("door", String(32), nullable=False),  # who took it in: command line, sftp, ...
    Column("partner_id", ForeignKey("accounts.id"), nullable=False),
    Column("owner_id", ForeignKey("accounts.id"), nullable=False),
    # Names the same delivery: of equal unfinished ones there is only one.
    Column("fingerprint", String(64), nullable=False),
    Column("blob", String(1024), nullable=False),
    Column("file_name", String(256), nullable=False),
    Column("metadata", JSON, nullable=False),  # as delivered, validated
    Column("state", String(16), nullable=False),  # segments.ingest.job.State
    Column("lease_owner", String(128)),
    Column("lease_until_s", Float),
    Column("checkpoint", JSON),  # how far it came: segments.ingest.job.Checkpoint
    Column("report", JSON),  # what it did so far: segments.ingest.job.Report
    Column("error_code", Integer),
    Column("error", String(512)),
    Column("created_at_s", Float, nullable=False),
    Column("started_at_s", Float),
    Column("finished_at_s", Float),
    # See segments.scrub: no ERASURE up to this number has left an id in the file that it concerns.
    Column("scrubbed_seq", BigInteger, nullable=False, server_default=text("0")),
    Column("scrubbed_at_s", Float),  # when that was seen to; none: not yet
    Column("scrubbed", JSON),  # what the file became: segments.ingest.job.Scrubbed
    CheckConstraint("state in ('queued', 'running', 'held', 'done', 'failed')", name="state"),
    Index("ix_jobs_partner_state", "partner_id", "state", "id"),
    Index("ix_jobs_scrubbed_seq", "scrubbed_seq"),
    sqlite_autoincrement=True,
)

data_subject_requests = Table(
    "data_subject_requests",
    metadata,
    Column("seq", _RowId, primary_key=True),  # the order in which the store applies them
    Column("transaction_id", String(32), nullable=False, unique=True),
    Column("action", String(16), nullable=False),  # RESTRICT, ERASURE
    Column("account_id", ForeignKey("accounts.id")),  # who submitted it; none: global
    Column("jurisdiction", String(16)),
    Column("submitter", String(256)),
    Column("created_at_s", Float, nullable=False),
    Column("applied_at_s", Float),  # none: the store may not have it yet
    CheckConstraint("action in ('RESTRICT', 'ERASURE')", name="action"),
    # Asked for every second; nearly always empty.
    Index(
        "ix_data_subject_requests_unapplied",
        "seq",
        sqlite_where=text("applied_at_s is null"),
        postgresql_where=text("applied_at_s is null"),
    ),
    # Whose ids are to be scrubbed; asked for the last one every minute.
    Index(
        "ix_data_subject_requests_erasures",
        "seq",
        sqlite_where=text("action = 'ERASURE'"),
        postgresql_where=text("action = 'ERASURE'"),
    ),
    sqlite_autoincrement=True,
)

data_subject_ids = Table(
    "data_subject_ids",
    metadata,
    Column("seq", ForeignKey("data_subject_requests.seq"), primary_key=True),
    Column("id", LargeBinary(16), primary_key=True),  # segments.identity.Id
    Column("kind", String(8), nullable=False),
    Index("ix_data_subject_ids_id", "id"),
)

ssh_keys = Table(
    "ssh_keys",
    metadata,
    Column("id", _RowId, primary_key=True),
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
    Column("id", _RowId, primary_key=True),
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
    Column("id", _RowId, primary_key=True),
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
    Column("id", _RowId, primary_key=True),
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
    Column("id", _RowId, primary_key=True),
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
    Column("id", _RowId, primary_key=True),
    Column("request_id", String(32), nullable=False, unique=True),
    Column("key", String(32), nullable=False, unique=True),  # unguessable; in the URL's path
    Column("account_id", ForeignKey("accounts.id"), nullable=False),  # who asked for it
    Column("audience_id", ForeignKey("audiences.id"), nullable=False),
    Column("file_name", String(256), nullable=False),
    Column("action", String(8), nullable=False),  # segments.ingest.validate.Action
    Column("hash_type", String(8), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("job_id", ForeignKey("jobs.id")),  # none: has not arrived
    # Asked for every few seconds where files come by a bucket.
    Index("ix_uploads_expires_at_s", "expires_at_s"),
    sqlite_autoincrement=True,
)

late_opt_outs = Table(
    "late_opt_outs",
    metadata,
    # A RESTRICT that was recorded while a job ran, of an id that the job had reached
    # before it: what the job added to that id stays, unseen. See `segments.rebuild`.
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("seq", ForeignKey("data_subject_requests.seq"), primary_key=True),
    Column("id", LargeBinary(16), primary_key=True),
)

retired_blobs = Table(
    "retired_blobs",
    metadata,
    # Files that no job names any more and that are still to be deleted.
    Column("name", String(1024), primary_key=True),
)
