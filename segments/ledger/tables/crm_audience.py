"""CRM audiences: campaigns, activations, and the counts of each upload."""

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, String, Table, UniqueConstraint

from segments.ledger.tables.base import RowId, metadata

campaigns = Table(
    "campaigns",
    metadata,
    # Names need not be unique, as in the vendor's API.
    Column("id", RowId, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False, index=True),
    Column("name", String(256), nullable=False),
    Column("created_at_s", Float, nullable=False),
    sqlite_autoincrement=True,
)

crm_audiences = Table(
    "crm_audiences",
    metadata,
    # The row outlives its audience, to keep the number's owner known.
    Column("audience_id", ForeignKey("audiences.id"), primary_key=True, autoincrement=False),
    Column("campaign_id", ForeignKey("campaigns.id"), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False),  # the creator
    Column("description", String(2048)),
    Column("created_at_s", Float, nullable=False),
    Column("updated_at_s", Float, nullable=False),
)

activations = Table(
    "activations",
    metadata,
    # An audience shown to a recipient, in a window of its own.
    Column("id", RowId, primary_key=True),
    Column("audience_id", ForeignKey("audiences.id"), nullable=False),
    Column("recipient_id", ForeignKey("recipients.id"), nullable=False),
    Column("segment_id", String(64), nullable=False),
    Column("name", String(256), nullable=False),
    Column("description", String(2048)),
    Column("live_from_s", BigInteger, nullable=False),
    Column("live_until_s", BigInteger, nullable=False),  # exclusive
    Column("flow_id", String(36), nullable=False),  # of the last change: a GUID
    Column("updated_at_s", Float, nullable=False),
    UniqueConstraint("audience_id", "recipient_id"),
    sqlite_autoincrement=True,
)

crm_uploads = Table(
    "crm_uploads",
    metadata,
    # Counted before its first membership is written.
    Column("audience_id", ForeignKey("audiences.id"), primary_key=True, autoincrement=False),
    Column("job_id", ForeignKey("jobs.id"), primary_key=True, autoincrement=False),
    Column("mode", String(16), nullable=False),  # segments.ledger.crm_audience.uploads.Mode
    Column("total_rows", BigInteger, nullable=False),
    # segments.doors.crm_audience.schemas.DataSetCounts by data type
    Column("data_set", JSON, nullable=False),
    Column("created_at_s", Float, nullable=False),
)
