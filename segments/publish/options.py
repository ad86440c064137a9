"""The operator's options for publishing."""

from typing import NamedTuple


class PublishOptions(NamedTuple):
    """Intervals and batch sizes of publishing."""

    opt_outs_every_s: float = 5.0
    changes_every_s: float = 10.0
    full_every_s: float = 7 * 86_400.0
    buckets_at_once: int = 10_000
    """In an increment: with a hundred persons each, a second or two of work."""
