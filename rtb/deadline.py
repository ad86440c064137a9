"""
The time that a bid request may wait for the store.

`tmax` is the time of the whole auction. Enrichment takes a share, up to a cap: a late bid is worth
less than one without segments. Stages have no other timeouts. The edge owns the clock.
"""


def deadline_ms(tmax_ms: float | None, share: float, cap_ms: float) -> float:
    """
    Return the milliseconds from arrival after which a request leaves unenriched.

    Args:
        tmax_ms: `BidRequest.tmax` (OpenRTB 2.6, 3.2.1); `None` if absent. Zero and below count as
            absent: senders write 0 for "no limit known".
        share: The fraction of `tmax` for enrichment.
        cap_ms: The maximum, however large `tmax` is.
    """
    if tmax_ms is None or tmax_ms <= 0:
        return cap_ms
    return min(cap_ms, tmax_ms * share)
