"""
Quotas of a partner: bytes, deliveries, audiences.

Days are UTC days. Sub accounts share the quotas of their agency, which delivers.
"""

from typing import Final, NamedTuple

from segments.model.day import S_PER_DAY


class Quota(NamedTuple):
    """The quotas of a partner; `None`: no limit."""

    deliveries_per_day: int | None = None
    """Files, chunks and runs that become jobs."""
    delivered_bytes_per_day: int | None = None
    """Of these files, as they came."""
    kept_bytes: int | None = None
    """Of the kept files, as they came: kept ids take less."""
    audiences: int | None = None
    """Not counting deleted ones."""


class Use(NamedTuple):
    """A partner's use of each quota of the same name."""

    deliveries_per_day: int = 0
    delivered_bytes_per_day: int = 0
    kept_bytes: int = 0
    audiences: int = 0


UNLIMITED: Final = Quota()

NAME_TO_WORDS: Final = {
    "deliveries_per_day": "deliveries a day",
    "delivered_bytes_per_day": "bytes delivered a day",
    "kept_bytes": "bytes kept",
    "audiences": "audiences",
}


class OverQuota(Exception):
    """
    A partner's quota is used up.

    Attributes:
        come_again_s: Seconds until the quota is renewed; `None`: operator or partner must make
            room.
    """

    def __init__(self, name: str, limit: int, come_again_s: int | None) -> None:
        self.come_again_s = come_again_s
        cure = "ask the operator" if come_again_s is None else "send it again tomorrow (UTC)"
        super().__init__(f"the quota of {limit} {NAME_TO_WORDS[name]} is used up; {cure}")


def check(quota: Quota, use: Use, more: Use, now_s: float) -> None:
    """
    Check that a partner may use more.

    Raises:
        OverQuota: Not that much.
    """
    for name, limit in quota._asdict().items():
        wanted = getattr(more, name)
        if limit is not None and wanted and getattr(use, name) + wanted > limit:
            is_daily = name.endswith("_per_day")
            until_midnight_s = S_PER_DAY - int(now_s) % S_PER_DAY
            raise OverQuota(name, limit, until_midnight_s if is_daily else None)
