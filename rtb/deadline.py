"""
How long a bid request may wait for the store.

`tmax` is the whole auction's time; enrichment takes a share of it, and never
more than a cap, because a bid that leaves late is worth less than a bid that
leaves without segments. There is one deadline per request, made here, and no
stage has a timeout of its own. The edge owns the clock.
"""


def deadline_ms(tmax_ms: float | None, share: float, cap_ms: float) -> float:
    """
    Return the milliseconds from arrival after which a request leaves as it came.

    Args:
        tmax_ms: `BidRequest.tmax` (OpenRTB 2.6, 3.2.1), or `None` if not said.
            Zero and below are taken as not said: senders write 0 for "no limit
            known", and a literal reading would enrich nothing of theirs.
        share: The fraction of `tmax` that enrichment may spend.
        cap_ms: The most that it may spend, however generous `tmax` is.
    """
    if tmax_ms is None or tmax_ms <= 0:
        return cap_ms
    return min(cap_ms, tmax_ms * share)
