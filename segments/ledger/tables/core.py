"""What all else stands on: accounts, recipients, audiences, jobs, and what persons told us."""

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
    # What the account is called in files and bid requests: partner_id, sub_id, publisher.id.
    Column("public_id", String(128), nullable=False),
    # Among which accounts that is unambiguous: segments.model.account.id_space.
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
    Column("id", RowId, primary_key=True),
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
    Column("id", RowId, primary_key=True),
    # The advertiser whose persons these are; for an agency's sub_id, the sub account.
    Column("owner_id", ForeignKey("accounts.id"), nullable=False),
    # Whose `Data` object shows it: the owner, or the owner's agency.
    Column("partner_id", ForeignKey("accounts.id"), nullable=False),
    Column("segment_id", String(64), nullable=False),  # as shown in a bid request
    Column("name", String(256), nullable=False),
    Column("state", String(16), nullable=False),  # segments.model.audience.AudienceState
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
    # No bid is answered by one before this any more: see `segments.projection.in_force`.
    Column("in_force", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("id = 1", name="one_row"),
)

revision_names = Table(
    "revision_names",
    metadata,
    # The last revisions, each with a name that was drawn at random: see `segments.ledger.revision`.
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(32), nullable=False),
)

ledger_identity = Table(
    "ledger_identity",
    metadata,
    # One row, made with the ledger: see `segments.ledger.ledger_id`.
    Column("id", Integer, primary_key=True),
    Column("ledger_id", String(32), nullable=False),
    # Numbers up to these are given away, though no row may have them: a store was told of them
    # by rows that are lost.
    Column("last_audience", BigInteger, nullable=False, server_default=text("0")),
    Column("last_opt_out", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("id = 1", name="one_row"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", RowId, primary_key=True),  # also the order in which a partner's files apply
    Column("transaction_id", String(32), nullable=False, unique=True),
    Column("door", String(32), nullable=False),  # who took it in: command line, sftp, ...
    Column("partner_id", ForeignKey("accounts.id"), nullable=False),
    Column("owner_id", ForeignKey("accounts.id"), nullable=False),
    # Names the same delivery: of equal unfinished ones there is only one.
    Column("fingerprint", String(64), nullable=False),
    Column("blob", String(1024), nullable=False),
    Column("file_name", String(256), nullable=False),
    # As the door was sent it, validated: for the vendor's answer. What is to be done is `order`.
    Column("metadata", JSON, nullable=False),
    Column("state", String(16), nullable=False),  # segments.model.job.JobState
    Column("lease_owner", String(128)),
    Column("lease_until_s", Float),
    Column("checkpoint", JSON),  # how far it came: segments.model.job.Checkpoint
    Column("report", JSON),  # what it did so far: segments.model.job.Report
    Column("error_code", Integer),  # of the release before: see revision 0009
    Column("error", String(512)),
    Column("created_at_s", Float, nullable=False),
    Column("started_at_s", Float),
    Column("finished_at_s", Float),
    # See segments.upkeep.scrub.scrubber: no ERASURE up to this number has left an id in the file
    # that it concerns.
    Column("scrubbed_seq", BigInteger, nullable=False, server_default=text("0")),
    Column("scrubbed_at_s", Float),  # when that was seen to; none: not yet
    Column("scrubbed", JSON),  # what the file became: segments.model.job.Scrubbed
    # segments.model.order.Order; none: of a process of the release before, see revision 0009.
    Column("order", JSON),
    CheckConstraint("state in ('queued', 'running', 'held', 'done', 'failed')", name="state"),
    Index("ix_jobs_partner_state", "partner_id", "state", "id"),
    Index("ix_jobs_scrubbed_seq", "scrubbed_seq"),
    sqlite_autoincrement=True,
)

retired_blobs = Table(
    "retired_blobs",
    metadata,
    # Files that no job names any more and that are still to be deleted.
    Column("name", String(1024), primary_key=True),
)

data_subject_requests = Table(
    "data_subject_requests",
    metadata,
    Column("seq", RowId, primary_key=True),  # the order in which the store applies them
    Column("transaction_id", String(32), nullable=False, unique=True),
    Column("action", String(16), nullable=False),  # RESTRICT, ERASURE
    Column("account_id", ForeignKey("accounts.id")),  # who submitted it; none: global
    Column("jurisdiction", String(16)),
    Column("submitter", String(256)),
    Column("created_at_s", Float, nullable=False),
    Column("applied_at_s", Float),  # none: the store may not have it yet
    # As submitted; only told again. ACCESS is a table of its own, `access_requests`.
    Column("callback", String(2048)),
    # By which of the two it came; neither: the command line. References but in name: to add one,
    # SQLite would have to copy the table, to which others refer. Neither is ever deleted.
    Column("token_id", BigInteger),
    Column("key_id", BigInteger),
    # Taken over from a store that alone knew of it: so many bits of each id name its bucket, and
    # those between these and the field are zero. None: its ids are known whole.
    Column("bucket_bits", Integer),
    CheckConstraint("action in ('RESTRICT', 'ERASURE')", name="action"),
    Index("ix_data_subject_requests_created_at_s", "created_at_s"),
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
    Column("id", LargeBinary(16), primary_key=True),  # segments.model.identity.Id
    Column("kind", String(8), nullable=False),
    # What the digest of an e-mail hash has behind its first 16 bytes, so that answers can name
    # what was submitted. Whoever could test an address against it could against the id alone.
    Column("tail", LargeBinary(16)),
    Index("ix_data_subject_ids_id", "id"),
)

late_opt_outs = Table(
    "late_opt_outs",
    metadata,
    # A RESTRICT that was recorded while a job ran, of an id that the job had reached
    # before it: what the job added to that id stays, unseen. See `segments.upkeep.rebuild`.
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("seq", ForeignKey("data_subject_requests.seq"), primary_key=True),
    Column("id", LargeBinary(16), primary_key=True),
)
