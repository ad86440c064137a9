"""
What a job's delivery asks for, in our words, beside what its vendor's answer needs.

Every row there is gets its `order`. A process of the release before, which goes on
while this runs and after it:

- reads rows of ours as it read its own: it asks for its own columns by name, takes what to
  do from `metadata`, and finds it there (`forms_before_0009.metadata_of`);
- writes rows without an `order`, which we read by `forms_before_0009.order_of`. So the
  column may be null, until a later revision fills in those rows as well;
- writes the vendor's `error_code`, which we do not: nobody reads it. The column goes with
  the revision that follows;
- waits while this runs, as for any other transaction that changes the table: 7 s of one core
  for 100,000 jobs; and can't be started again after it: its software refuses a ledger of a
  later revision.

Written out, not taken from `segments.ledger.tables`: those move on, and a
ledger that was made by this revision has what stands here.
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
