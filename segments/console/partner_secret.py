"""The secret of `segments.model.partner_numbers`, read once."""

from segments.console.visit import Visit
from segments.ledger import audience_counts

_SECRET = "partner numbers"  # noqa: S105 - its name


async def secret_of(visit: Visit) -> bytes:
    """Return the secret that rounds a partner's numbers."""
    kept = visit.console.kept
    if _SECRET not in kept:
        async with visit.console.services.ledger.begin() as conn:
            kept[_SECRET] = await audience_counts.partner_secret(conn, now_s=visit.now_s)
    return kept[_SECRET]
