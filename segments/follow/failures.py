"""Failures of a look at a publication: their words, with the remedy, and their metric label."""

from typing import Final

from redis.exceptions import RedisError

from segments.files.published_place import NoAnswer, NotThere, PlaceAway, WrongSize
from segments.runtime import causes
from segments.runtime.follow_status import FollowEvent
from segments.store.error_code import in_words
from segments.store.published.form import NewerFile, UnreadableFile
from segments.store.published.latest import NotSigned
from segments.store.reader import StoreUnusable

FAILURES: Final = (PlaceAway, UnreadableFile, StoreUnusable, RedisError, OSError)
"""Everything that a look may raise."""


def event_of(error: Exception) -> FollowEvent:
    """Return a failure's event."""
    if isinstance(error, PlaceAway) and not isinstance(error, WrongSize):
        return FollowEvent.PLACE_AWAY
    if isinstance(error, NotSigned):
        return FollowEvent.NOT_SIGNED
    if isinstance(error, NewerFile):
        return FollowEvent.NEWER
    if isinstance(error, (UnreadableFile, WrongSize)):
        return FollowEvent.DAMAGED
    return FollowEvent.VOLUME if _is_of_the_volume(error) else FollowEvent.STORE_AWAY


def _is_of_the_volume(error: Exception) -> bool:
    return isinstance(error, OSError) and not isinstance(error, RedisError)


def in_one_line(error: Exception) -> str:
    """Return a failure and its remedy, without a URL and without a person."""
    if isinstance(error, RedisError):
        return in_words(error)
    if event_of(error) is FollowEvent.PLACE_AWAY and isinstance(error, PlaceAway):
        return f"the place that is followed: {error}; {_cure_of(error)}"
    if _is_of_the_volume(error):
        assert isinstance(error, OSError)
        return causes.of_os_error(error).of("the volume of SEGMENTS_DATA_DIR")
    cure = _EVENT_TO_CURE.get(event_of(error))
    return f"{error}; {cure}" if cure else str(error)


_EVENT_TO_CURE: Final = {
    FollowEvent.NOT_SIGNED: (
        "set there the key that `rtb-segments key publish` printed for this publisher, unless"
        " another publisher writes to the place"
    ),
    FollowEvent.DAMAGED: "restart `rtb-segments publish`, which writes a new full",
}


def _cure_of(error: PlaceAway) -> str:
    if isinstance(error, NotThere):
        return "see whether `rtb-segments publish` writes to the place that RTB_FOLLOW names"
    if isinstance(error, NoAnswer):
        return "see whether its mount, or the network to it, still works"
    return "see whether the pod may read it"
