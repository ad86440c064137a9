"""Every reader of foreign bytes: the one table of what is fuzzed."""

from tests.fuzz import (
    bids,
    calls,
    consent,
    files,
    frames,
    heads,
    metadata,
    published,
    questions,
    rest,
    sftp,
    tables,
)
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (
        bids,
        calls,
        questions,
        heads,
        consent,
        files,
        frames,
        tables,
        published,
        metadata,
        sftp,
        rest,
    )
    for target in module.TARGETS
}
