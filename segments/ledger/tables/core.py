"""Core tables: accounts, recipients, audiences, jobs, and data subject requests."""

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
    UniqueConstraint,
    text,
)

from segments.ledger.tables.base import RowId, metadata

accounts = Table(
    "accounts",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("kind", String(16), nullable=False),  # segments.model.account.AccountKind
    # In files and bid requests: partner_id, sub_id, publisher.id.
    Column("public_id", String(128), nullable=False),
    # Where it is unique: segments.model.account.id_space.
    Column("id_space", String(32), nullable=False),
    Column("name", String(256), nullable=False),
    # A sub account's agency; a publisher's or an advertiser's media group.
    Column("parent_id", ForeignKey("accounts.id")),
    Column("segtax", Integer),  # Data.ext.segtax of its segments; null if proprietary
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at_s", BigInteger, nullable=False),
    CheckConstraint("kind in ('agency', 'advertiser', 'publisher', 'media_group')", name="kind"),
    UniqueConstraint("id_space", "public_id"),
    sqlite_autoincrement=True,
)

quotas = Table(
    "quotas",
    metadata,
    # A partner's quotas (segments.model.quota); null: no limit.
    Column("partner_id", ForeignKey("accounts.id"), primary_key=True),
    Column("deliveries_per_day", BigInteger),
    Column("delivered_bytes_per_day", BigInteger),
    Column("kept_bytes", BigInteger),
    Column("audiences", BigInteger),
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
    Column("id", RowId, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),  # as in the URL
    Column("hold_out", Float, nullable=False, server_default=text("0")),  # fraction of persons
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at_s", BigInteger, nullable=False),
    # Even if the recipient has none.
    Column("needs_token", Boolean, nullable=False, server_default=text("false")),
    # The client's certificate must have any of these; null: no certificate needed.
    Column("certificates", JSON(none_as_null=True)),
    sqlite_autoincrement=True,
)

recipient_tokens = Table(
    "recipient_tokens",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("recipient_id", ForeignKey("recipients.id"), nullable=False),
    Column("token_sha256", LargeBinary(32), nullable=False, unique=True),
    Column("created_at_s", BigInteger, nullable=False),
    Column("revoked_at_s", BigInteger),
    Index("ix_recipient_tokens_recipient_id", "recipient_id"),
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
    Column("id", RowId, primary_key=True),
    # The advertiser; for an agency's sub_id, the sub account.
    Column("owner_id", ForeignKey("accounts.id"), nullable=False),
    # The owner, or its agency; shown in its `Data` object.
    Column("partner_id", ForeignKey("accounts.id"), nullable=False),
    Column("segment_id", String(64), nullable=False),  # as in bid requests
    Column("name", String(256), nullable=False),
    Column("state", String(16), nullable=False),  # segments.model.audience.AudienceState
    Column("live_from_s", BigInteger),  # the window; null: no bound
    Column("live_until_s", BigInteger),
    Column("ttl_days", Integer),  # lifetime of a membership; null: no expiry
    Column("created_at_s", BigInteger, nullable=False),
    Column("updated_at_s", BigInteger, nullable=False),
    CheckConstraint("state in ('active', 'deactivated', 'deleted')", name="state"),
    # A deleted audience keeps its row and number; its segment id may be reused.
    Index(
        "uq_audiences_live",
        "owner_id",
        "segment_id",
        unique=True,
        sqlite_where=text("state <> 'deleted'"),
        postgresql_where=text("state <> 'deleted'"),
    ),
    Index("ix_audiences_partner_id_id", "partner_id", "id"),
    Index("ix_audiences_owner_id_id", "owner_id", "id"),
    sqlite_autoincrement=True,
)

catalog_revision = Table(
    "catalog_revision",
    metadata,
    # A single row, raised by every change of the tables above. It starts at the unix time of
    # creation, so that another ledger's store never looks up to date.
    Column("id", Integer, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    # See `segments.projection.in_force`.
    Column("in_force", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("id = 1", name="one_row"),
)

revision_names = Table(
    "revision_names",
    metadata,
    # See `segments.ledger.revision`.
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(32), nullable=False),
)

ledger_identity = Table(
    "ledger_identity",
    metadata,
    # A single row: see `segments.ledger.ledger_id`.
    Column("id", Integer, primary_key=True),
    Column("ledger_id", String(32), nullable=False),
    # Numbers up to these are taken, even by lost rows: a store was told of them.
    Column("last_audience", BigInteger, nullable=False, server_default=text("0")),
    Column("last_opt_out", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("id = 1", name="one_row"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", RowId, primary_key=True),  # a partner's files apply in this order
    Column("transaction_id", String(32), nullable=False, unique=True),
    Column("door", String(32), nullable=False),  # command line, sftp, ...
    Column("partner_id", ForeignKey("accounts.id"), nullable=False),
    Column("owner_id", ForeignKey("accounts.id"), nullable=False),
    # Of a delivery: repeating an unfinished one adds no job.
    Column("fingerprint", String(64), nullable=False),
    Column("blob", String(1024), nullable=False),
    Column("file_name", String(256), nullable=False),
    # The vendor's form, validated, for the vendor's answer alone.
    Column("metadata", JSON, nullable=False),
    Column("state", String(16), nullable=False),  # segments.model.job.JobState
    Column("lease_owner", String(128)),
    Column("lease_until_s", Float),
    Column("checkpoint", JSON),  # segments.model.job.Checkpoint
    Column("report", JSON),  # results so far: segments.model.job.Report
    Column("error_code", Integer),  # of the previous release: see revision 0009
    Column("error", String(512)),
    Column("created_at_s", Float, nullable=False),
    Column("started_at_s", Float),
    Column("finished_at_s", Float),
    # The file holds no id of an ERASURE, within its scope, up to this number:
    # segments.upkeep.scrub.scrubber.
    Column("scrubbed_seq", BigInteger, nullable=False, server_default=text("0")),
    Column("scrubbed_at_s", Float),  # time of the last attempt; null: none yet
    Column("scrubbed", JSON),  # the result: segments.model.job.Scrubbed
    # segments.model.order.Order; null: from the previous release, see revision 0009.
    Column("order", JSON),
    # Of the file as delivered; of a run, the customer's files together.
    Column("delivered_bytes", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("state in ('queued', 'running', 'held', 'done', 'failed')", name="state"),
    Index("ix_jobs_partner_created", "partner_id", "created_at_s"),
    Index("ix_jobs_partner_state", "partner_id", "state", "id"),
    Index("ix_jobs_scrubbed_seq", "scrubbed_seq"),
    # Lists, newest first; a search of texts reads only this.
    Index("ix_jobs_listed", "id", "created_at_s", "file_name", "transaction_id"),
    Index(
        "ix_jobs_partner_listed", "partner_id", "id", "created_at_s", "file_name", "transaction_id"
    ),
    Index("ix_jobs_owner_listed", "owner_id", "id", "created_at_s", "file_name", "transaction_id"),
    Index("ix_jobs_state_id", "state", "id"),
    sqlite_autoincrement=True,
)

job_audiences = Table(
    "job_audiences",
    metadata,
    # Changed by a job's plan: `segments.model.job.Planned`.
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("audience_id", ForeignKey("audiences.id"), primary_key=True),
    Column("action", String(8), primary_key=True),  # segments.model.order.SegmentAction
    Index("ix_job_audiences_audience_id_job_id", "audience_id", "job_id"),
)

audience_counts = Table(
    "audience_counts",
    metadata,
    # The census: an audience's members in the store on a day.
    Column("audience_id", ForeignKey("audiences.id"), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),  # segments.model.record.day_of
    Column("counted_at_s", Float, nullable=False),
    Column("members", BigInteger, nullable=False),  # with those whom an opt-out hides
    Column("opted_out", BigInteger, nullable=False),
    Column("ends", JSON, nullable=False),  # the last day of memberships, to their number
    Index("ix_audience_counts_day", "day"),
)

retired_blobs = Table(
    "retired_blobs",
    metadata,
    # Files that no job names, still to be deleted.
    Column("name", String(1024), primary_key=True),
)

data_subject_requests = Table(
    "data_subject_requests",
    metadata,
    Column("seq", RowId, primary_key=True),  # the order in which the store applies them
    Column("transaction_id", String(32), nullable=False, unique=True),
    Column("action", String(16), nullable=False),  # RESTRICT, ERASURE
    Column("account_id", ForeignKey("accounts.id")),  # the submitter; null: global
    Column("jurisdiction", String(16)),
    Column("submitter", String(256)),
    Column("reference", String(128)),  # the privacy desk's own, such as its ticket
    Column("created_at_s", Float, nullable=False),
    Column("applied_at_s", Float),  # null: the store may not have it yet
    # As submitted; only returned in answers.
    Column("callback", String(2048)),
    # The credential; neither: the command line. No foreign keys: for them SQLite would copy the
    # table, to which others refer. Credentials are never deleted.
    Column("token_id", BigInteger),
    Column("key_id", BigInteger),
    # Taken over from a store: this many leading bits of each id name its bucket, and the bits
    # between them and the field are zero. Null: ids known in full.
    Column("bucket_bits", Integer),
    CheckConstraint("action in ('RESTRICT', 'ERASURE')", name="action"),
    Index("ix_data_subject_requests_created_at_s", "created_at_s"),
    # Queried every second; nearly always empty.
    Index(
        "ix_data_subject_requests_unapplied",
        "seq",
        sqlite_where=text("applied_at_s is null"),
        postgresql_where=text("applied_at_s is null"),
    ),
    # The ids to scrub; the last is queried every minute.
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
    Column("id", LargeBinary(16), primary_key=True),  # segments.model.identity.Id
    Column("kind", String(8), nullable=False),
    # The rest of an e-mail hash after its first 16 bytes, so that answers can name the hash.
    Column("tail", LargeBinary(16)),
    Index("ix_data_subject_ids_id", "id"),
)

late_opt_outs = Table(
    "late_opt_outs",
    metadata,
    # A RESTRICT, recorded while a job ran, of an id that the job had already reached, whose
    # additions stay, hidden. See `segments.upkeep.rebuild`.
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("seq", ForeignKey("data_subject_requests.seq"), primary_key=True),
    Column("id", LargeBinary(16), primary_key=True),
)
