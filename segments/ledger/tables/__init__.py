"""
The ledger's tables: the system of record.

The store is a projection of these tables and the blobs, so losing a Redis loses nothing, and
opt-outs outlive every store. The definitions serve both SQLite and PostgreSQL; `migrations/`
brings a database to them, and a test compares the two.

Ids that reach the store (accounts, audiences, recipients) are small integers, never reused:
rows are marked instead of deleted, and SQLite's `AUTOINCREMENT` protects deleted rows' numbers.
Times are unix seconds.
"""

from segments.ledger.tables.base import metadata
from segments.ledger.tables.console import console_sessions, processes, staff
from segments.ledger.tables.core import (
    account_relations,
    accounts,
    audience_counts,
    audiences,
    catalog_revision,
    data_subject_ids,
    data_subject_requests,
    job_audiences,
    jobs,
    late_opt_outs,
    ledger_identity,
    quotas,
    recipient_grants,
    recipient_tokens,
    recipients,
    retired_blobs,
    revision_names,
)
from segments.ledger.tables.crm_audience import activations, campaigns, crm_audiences, crm_uploads
from segments.ledger.tables.delivery import (
    callbacks,
    deliveries,
    external_ids,
    secrets,
    sessions,
    ssh_keys,
    throttles,
    uploads,
    users,
)
from segments.ledger.tables.external_audience import (
    base_connections,
    external_audiences,
    external_run_files,
    external_runs,
    idempotency_keys,
    org_credentials,
    org_sandboxes,
)
from segments.ledger.tables.privacy import (
    access_request_ids,
    access_requests,
    audit,
    privacy_jwts,
    privacy_keys,
    privacy_tokens,
)

__all__ = [
    "access_request_ids",
    "access_requests",
    "account_relations",
    "accounts",
    "activations",
    "audience_counts",
    "audiences",
    "audit",
    "base_connections",
    "callbacks",
    "campaigns",
    "catalog_revision",
    "console_sessions",
    "crm_audiences",
    "crm_uploads",
    "data_subject_ids",
    "data_subject_requests",
    "deliveries",
    "external_audiences",
    "external_ids",
    "external_run_files",
    "external_runs",
    "idempotency_keys",
    "job_audiences",
    "jobs",
    "late_opt_outs",
    "ledger_identity",
    "metadata",
    "org_credentials",
    "org_sandboxes",
    "privacy_jwts",
    "privacy_keys",
    "privacy_tokens",
    "processes",
    "quotas",
    "recipient_grants",
    "recipient_tokens",
    "recipients",
    "retired_blobs",
    "revision_names",
    "secrets",
    "sessions",
    "ssh_keys",
    "staff",
    "throttles",
    "uploads",
    "users",
]
