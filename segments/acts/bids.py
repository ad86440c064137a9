from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By
from segments.ledger.privacy import audit
from segments.ledger.privacy.audit import Entry
from segments.model.explained_bid import Asked, Explanation

TRUSTED_CALLER = "trusted caller"
"""In the place of a recipient's name."""


async def explain(
    conn: AsyncConnection, by: By, asked: Asked, explanations: Collection[Explanation]
) -> None:
    """
    Add the row of an explained bid, before the explanation, a look at a person's data, is shown.

    Args:
        conn: A transaction.
        by: The asking member of staff.
        asked: With the key of `audit.trail_key`, under which listeners made the digests.
        explanations: Of the listeners, if any.
    """
    entry = Entry(
        "explain",
        refused_because=None if explanations else "no listener explained it",
        subjects={digest for explanation in explanations for digest in explanation.subjects},
        target=asked.recipient or TRUSTED_CALLER,
        detail={"form": asked.form.value},
    )
    await audit.add(conn, by.who, [entry], now_s=by.now_s)
