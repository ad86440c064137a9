"""What a pod that follows says of the age of its data."""

from math import inf
from pathlib import Path

import pytest

from segments.runtime.follow_status import (
    FollowEvent,
    FollowReader,
    FollowStatus,
    follow_dir,
    read_status,
    write_status,
)

FOLLOWED = FollowStatus(
    pid=1,
    max_age_s=900,
    made_at_s=1_000.0,
    seen_at_s=50.0,
    number=7,
    opt_outs=3,
    events={FollowEvent.FULL: 1},
)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    follow_dir(tmp_path).mkdir()
    return tmp_path


def test_status_is_read_as_it_was_written(data_dir: Path) -> None:
    write_status(data_dir, FOLLOWED)

    assert read_status(data_dir) == FOLLOWED


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"pid": "x"}'])
def test_status_that_is_not_there_or_not_whole_is_none(
    data_dir: Path, content: bytes | None
) -> None:
    if content is not None:
        (follow_dir(data_dir) / "status.json").write_bytes(content)

    reader = FollowReader(data_dir)

    assert (reader.status(), reader.age_s()) == (None, inf)
    assert reader.troubles() == (
        ["no follower runs: start the pod by `rtb-segments serve --follow`"],
        (),
    )


@pytest.mark.parametrize(
    ("now_s", "monotonic_s", "age_s"),
    [
        (1_010, 55, 10),
        (1_010, 80, 30),  # the clock of the publisher is ahead, or ours behind
        (900, 45, 0),
    ],
)
def test_age_is_the_higher_of_both_clocks(now_s: float, monotonic_s: float, age_s: float) -> None:
    assert FOLLOWED.age_s(now_s, monotonic_s) == age_s


def test_age_limit_and_remedy_are_named_when_the_data_are_too_old() -> None:
    assert FOLLOWED.why_closed(1_894, 60) == ""
    why = FOLLOWED.why_closed(1_894.5, 60)
    assert why.startswith("the followed data are 895 s old, and RTB_FOLLOW_MAX_AGE_S permits 900 s")
    assert "`rtb-segments publish` runs" in why


def test_trouble_of_the_follower_is_the_reason_where_it_has_one(data_dir: Path) -> None:
    old = FollowStatus(pid=1, max_age_s=60, made_at_s=1.0, trouble="the mount hangs")
    write_status(data_dir, old)
    [closed], ill = FollowReader(data_dir).troubles()
    assert closed.endswith("s old, and RTB_FOLLOW_MAX_AGE_S permits 60 s: the mount hangs")
    assert not ill

    never = FollowStatus(pid=1, max_age_s=60, trouble="the mount hangs")
    assert never.why_closed(0, 0) == (
        "nothing that is published has been loaded yet: the mount hangs"
    )


def test_trouble_is_told_while_the_data_are_still_in_use(data_dir: Path) -> None:
    fresh = FollowStatus(
        pid=1, max_age_s=60, made_at_s=1e12, seen_at_s=1e12, trouble="the mount hangs"
    )
    write_status(data_dir, fresh)

    assert FollowReader(data_dir).troubles() == ((), ["not followed: the mount hangs"])
