"""
A job's order in our words, next to the form that the vendor's answer needs.

Every existing row gets its `order`. A process of the previous release that runs on:

- reads our rows like its own: it takes its instructions from `metadata`, which still has them
  (`forms_before_0009.metadata_of`);
- writes rows without an `order`, which `forms_before_0009.order_of` reads. So the column stays
  nullable until a later revision fills it in;
- writes the vendor's `error_code`, which we ignore. The next revision drops the column;
- waits during the migration, 7 s of a core for 100,000 jobs, and can't restart after it, because
  it refuses a ledger of a later revision.
"""

import sqlalchemy as sa
from alembic import op

from segments.ledger.migrations.forms_before_0009 import order_of

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ROWS_AT_ONCE = 1000

_jobs = sa.table(
    "jobs",
    sa.column("id", sa.BigInteger),
    sa.column("metadata", sa.JSON),
    sa.column("order", sa.JSON),
)


def upgrade() -> None:
    """Add the column, and fill it."""
    op.add_column("jobs", sa.Column("order", sa.JSON(), nullable=True))
    conn = op.get_bind()
    fill_in = (
        sa.update(_jobs)
        .where(_jobs.c.id == sa.bindparam("job_id"))
        .values(order=sa.bindparam("said"))
    )
    last_id = 0
    while page := conn.execute(
        sa.select(_jobs.c.id, _jobs.c.metadata)
        .where(_jobs.c.id > last_id)
        .order_by(_jobs.c.id)
        .limit(_ROWS_AT_ONCE)
    ).all():
        conn.execute(fill_in, [{"job_id": job_id, "said": order_of(said)} for job_id, said in page])
        last_id = page[-1].id
