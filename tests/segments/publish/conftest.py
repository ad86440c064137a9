"""A publisher, and a follower that shows what it has published: as in the tests of the follower."""

from tests.segments.follow.conftest import history, link, pod, pod_server, redis

__all__ = ["history", "link", "pod", "pod_server", "redis"]
