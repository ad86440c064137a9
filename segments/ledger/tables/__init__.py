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

from segments.ledger.tables.base import metadata
from segments.ledger.tables.core import (
    account_relations,
    accounts,
    audiences,
    catalog_revision,
    data_subject_ids,
    data_subject_requests,
    jobs,
    late_opt_outs,
    ledger_identity,
    recipient_grants,
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
    "audiences",
    "audit",
    "base_connections",
    "callbacks",
    "campaigns",
    "catalog_revision",
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
    "jobs",
    "late_opt_outs",
    "ledger_identity",
    "metadata",
    "org_credentials",
    "org_sandboxes",
    "privacy_jwts",
    "privacy_keys",
    "privacy_tokens",
    "recipient_grants",
    "recipients",
    "retired_blobs",
    "revision_names",
    "secrets",
    "sessions",
    "ssh_keys",
    "uploads",
    "users",
]
