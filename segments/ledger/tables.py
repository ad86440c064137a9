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
    # As submitted; only told again. ACCESS is a table of its own, `access_requests`.
    Column("callback", String(2048)),
    # By which of the two it came; neither: the command line. References but in name: to add one,
    # SQLite would have to copy the table, to which others refer. Neither is ever deleted.
    Column("token_id", BigInteger),
    Column("key_id", BigInteger),
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
    Column("id", LargeBinary(16), primary_key=True),  # segments.identity.Id
    Column("kind", String(8), nullable=False),
    # What the digest of an e-mail hash has behind its first 16 bytes, so that answers can name
    # what was submitted. Whoever could test an address against it could against the id alone.
    Column("tail", LargeBinary(16)),
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

org_sandboxes = Table(
    "org_sandboxes",
    metadata,
    # `x-gw-ims-org-id` and `x-sandbox-name`: between which nothing is shared.
    Column("id", _RowId, primary_key=True),
    Column("ims_org_id", String(128), nullable=False),
    Column("name", String(64), nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),  # whose audiences its are
    Column("created_at_s", BigInteger, nullable=False),
    UniqueConstraint("ims_org_id", "name"),
    sqlite_autoincrement=True,
)

org_credentials = Table(
    "org_credentials",
    metadata,
    # `x-api-key` and `Authorization`, for one sandbox.
    Column("id", _RowId, primary_key=True),
    Column("sandbox_id", ForeignKey("org_sandboxes.id"), nullable=False),
    Column("api_key", String(32), nullable=False, unique=True),
    Column("token_sha256", LargeBinary(32), nullable=False, unique=True),
    Column("user_id", String(128), nullable=False),  # `createdBy` of what is done with it
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at_s", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

base_connections = Table(
    "base_connections",
    metadata,
    # Directories and buckets of customers, out of which runs take files.
    Column("id", _RowId, primary_key=True),
    Column("public_id", String(36), nullable=False, unique=True),  # `baseConnectionId`
    Column("sandbox_id", ForeignKey("org_sandboxes.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("url", String(1024), nullable=False),
    Column("options", JSON, nullable=False),  # of obstore; `env:NAME` for what is secret
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at_s", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

external_audiences = Table(
    "external_audiences",
    metadata,
    # What was asked to be created, and the audience that it became.
    Column("id", _RowId, primary_key=True),
    Column("public_id", String(36), nullable=False, unique=True),  # `audienceId`
    Column("operation_id", String(36), nullable=False, unique=True),
    Column("sandbox_id", ForeignKey("org_sandboxes.id"), nullable=False),
    Column("connection_id", ForeignKey("base_connections.id"), nullable=False),
    Column("namespace", String(256), nullable=False),
    Column("name", String(256), nullable=False),
    Column("custom_id", String(256)),  # `customAudienceId`
    Column("ttl_days", Integer, nullable=False),
    Column("spec", JSON, nullable=False),  # the other members of the request, as it had them
    Column("status", String(16), nullable=False),  # segments.ledger.external_audiences.Status
    Column("error", String(512)),  # why it failed
    Column("audience_id", ForeignKey("audiences.id")),  # once it is there
    Column("created_by", String(128), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("updated_by", String(128), nullable=False),
    Column("updated_at_s", BigInteger, nullable=False),
    Column("deleted_at_s", BigInteger),
    CheckConstraint("status in ('PROCESSING', 'SUCCESS', 'FAILED')", name="status"),
    # Names can be used anew after a creation that failed, and after a deletion.
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
    # One ingestion of an external audience; how far it is, its job says.
    Column("id", _RowId, primary_key=True),
    Column("public_id", String(36), nullable=False, unique=True),  # `runId`
    Column("external_audience_id", ForeignKey("external_audiences.id"), nullable=False),
    Column("sandbox_id", ForeignKey("org_sandboxes.id"), nullable=False),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("is_differential", Boolean, nullable=False),
    Column("filter_start_s", BigInteger, nullable=False),
    Column("filter_end_s", BigInteger, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("collected", JSON),  # segments.ingest.collect.Collected, once all files were read
    Index("ix_external_runs_audience", "external_audience_id", "id"),
    Index("ix_external_runs_sandbox", "sandbox_id", "created_at_s"),
    sqlite_autoincrement=True,
)

external_run_files = Table(
    "external_run_files",
    metadata,
    # The files that a run takes, in their order.
    Column("run_id", ForeignKey("external_runs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("path", String(1024), nullable=False),  # below the connection
    Column("version", String(128), nullable=False),  # another content has another one
    Column("size_bytes", BigInteger, nullable=False),
    Column("modified_at_s", Float, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    # What a request with an `Idempotency-Key` was answered; kept for a day.
    Column("scope", String(128), primary_key=True),  # who asked, and what
    Column("key", String(255), primary_key=True),
    Column("request_sha256", LargeBinary(32), nullable=False),
    Column("status", Integer),  # none: it is being answered
    Column("body", Text),
    Column("created_at_s", Float, nullable=False, index=True),
)

privacy_tokens = Table(
    "privacy_tokens",
    metadata,
    # Bearer tokens of the Privacy API; of each its SHA-256 alone.
    Column("id", _RowId, primary_key=True),  # `userId` in answers
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
    Column("id", _RowId, primary_key=True),
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
    Column("id", _RowId, primary_key=True),
    Column("transaction_id", String(32), nullable=False, unique=True),
    Column("account_id", ForeignKey("accounts.id")),  # what is told of; none: everything
    Column("jurisdiction", String(16)),
    Column("submitter", String(256)),
    Column("callback", String(2048)),
    Column("token_id", ForeignKey("privacy_tokens.id")),
    Column("key_id", ForeignKey("privacy_keys.id")),
    Column("created_at_s", Float, nullable=False),
    Column("state", String(16), nullable=False),  # segments.ledger.access_requests.State
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
    Column("id", _RowId, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("actor", String(16), nullable=False),  # segments.ledger.audit.Actor
    Column("actor_name", String(400)),  # the token's number; the key's domain/kid
    Column("account_id", ForeignKey("accounts.id")),  # the actor's; none: global, or nobody's
    Column("what", String(32), nullable=False),
    Column("result", String(16), nullable=False),
    Column("reason", String(128)),
    Column("scope_id", ForeignKey("accounts.id")),  # what it reaches; none: everything
    Column("transaction_id", String(32)),
    Column("subjects", JSON, nullable=False),  # salted digests of the ids
    Column("times", Integer, nullable=False),  # so many alike, of which this one is written
    CheckConstraint("result in ('done', 'refused')", name="result"),
    Index("ix_audit_at_s", "at_s"),
    sqlite_autoincrement=True,
)

campaigns = Table(
    "campaigns",
    metadata,
    # What an account's CRM audiences are for. A name may stand there twice, as in the vendor's.
    Column("id", _RowId, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False, index=True),
    Column("name", String(256), nullable=False),
    Column("created_at_s", Float, nullable=False),
    sqlite_autoincrement=True,
)

crm_audiences = Table(
    "crm_audiences",
    metadata,
    # What the CRM door keeps of an audience of its own; it outlives the audience, to be known by.
    Column("audience_id", ForeignKey("audiences.id"), primary_key=True, autoincrement=False),
    Column("campaign_id", ForeignKey("campaigns.id"), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False),  # who created it
    Column("description", String(2048)),
    Column("created_at_s", Float, nullable=False),
    Column("updated_at_s", Float, nullable=False),
)

activations = Table(
    "activations",
    metadata,
    # One audience shown to one recipient, under a segment id of its own, in a window of its own.
    Column("id", _RowId, primary_key=True),
    Column("audience_id", ForeignKey("audiences.id"), nullable=False),
    Column("recipient_id", ForeignKey("recipients.id"), nullable=False),
    Column("segment_id", String(64), nullable=False),
    Column("name", String(256), nullable=False),
    Column("description", String(2048)),
    Column("live_from_s", BigInteger, nullable=False),
    Column("live_until_s", BigInteger, nullable=False),  # the first second it is not shown
    Column("flow_id", String(36), nullable=False),  # of its last change: a GUID
    Column("updated_at_s", Float, nullable=False),
    UniqueConstraint("audience_id", "recipient_id"),
    sqlite_autoincrement=True,
)

crm_uploads = Table(
    "crm_uploads",
    metadata,
    # What a file brought to a CRM audience, counted before its first membership was written.
    Column("audience_id", ForeignKey("audiences.id"), primary_key=True, autoincrement=False),
    Column("job_id", ForeignKey("jobs.id"), primary_key=True, autoincrement=False),
    Column("mode", String(16), nullable=False),  # segments.ledger.crm_uploads.Mode
    Column("total_rows", BigInteger, nullable=False),
    Column("data_set", JSON, nullable=False),  # segments.ingest.columns.Counts by data type
    Column("created_at_s", Float, nullable=False),
)

retired_blobs = Table(
    "retired_blobs",
    metadata,
    # Files that no job names any more and that are still to be deleted.
    Column("name", String(1024), primary_key=True),
)
