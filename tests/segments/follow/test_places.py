"""Where published files lie: a bucket, beside the directory of the other tests."""

from collections.abc import Iterator

import boto3
import pytest

from segments.files.published_place import NotThere, PlaceUnusable, PublishedPlace, WrongSize
from segments.publish.options import PublishOptions
from segments.runtime.follow_status import FollowEvent
from segments.store.published.latest import number_in, read
from tests.s3 import become, policy, user_with
from tests.segments.follow.conftest import TRUSTED, Link

LIFECYCLE_S = 14 * 86_400.0


class Bucket:
    """A bucket of moto's, as its owner sees it."""

    def __init__(self, endpoint: str) -> None:
        self._client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        self._client.create_bucket(Bucket="seg")

    def names(self) -> set[str]:
        return {each["Key"] for each in self._client.list_objects_v2(Bucket="seg")["Contents"]}

    def delete(self, name: str) -> None:
        self._client.delete_object(Bucket="seg", Key=name)

    def read(self, name: str) -> bytes:
        return bytes(self._client.get_object(Bucket="seg", Key=name)["Body"].read())

    def write(self, name: str, content: bytes) -> None:
        self._client.put_object(Bucket="seg", Key=name, Body=content)


@pytest.fixture
def bucket(link: Link, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket between the two; its URL is the link's."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    link.url = "s3://seg/of/ours"
    bucket = Bucket(s3)
    become(monkeypatch, user_with(s3, policy("service", "seg", "of/ours")))
    yield bucket
    for name in bucket.names():
        bucket.delete(name)


async def test_followed_from_a_bucket_it_is_the_same_byte_for_byte(
    link: Link, bucket: Bucket, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publisher and follower have no other rights than those that the documentation names."""
    publisher = link.publisher()
    become(monkeypatch, user_with(s3, policy("follower", "seg", "of/ours")))
    follower = link.follower()
    for _ in range(3):
        await link.history.happen_all(files=1)
        await link.history.say_no()
        await publisher.step()
        await follower.look()

    assert follower.counts[FollowEvent.INCREMENT] == 2
    assert await link.followed() == await link.history.dump()
    assert all(name.startswith("of/ours/") for name in bucket.names())


@pytest.mark.parametrize("harm", ["deleted", "cut", "changed", "emptied"])
async def test_increment_that_is_missing_or_damaged_in_a_bucket_leads_to_a_full(
    link: Link, bucket: Bucket, harm: str
) -> None:
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    await follower.look()
    await link.history.happen_all(files=1)
    await publisher.step()
    [name] = [name for name in bucket.names() if "increment" in name]
    raw = bucket.read(name)
    bucket.delete(name)
    if harm != "deleted":
        bucket.write(name, harmed(raw, harm))
    with pytest.raises(Exception, match=r"increment-\d+.seg"):
        await follower.look()

    await link.publisher().step()
    await follower.look()

    assert follower.counts[FollowEvent.FULL] == 2
    assert await link.followed() == await link.history.dump()


def harmed(raw: bytes, harm: str) -> bytes:
    return {"cut": raw[:-1], "emptied": b"", "changed": raw[:-1] + bytes([raw[-1] ^ 1])}[harm]


async def test_bucket_that_deletes_files_after_fourteen_days_always_has_a_whole_way(
    link: Link, bucket: Bucket
) -> None:
    publisher = link.publisher(options=PublishOptions(0, 0))
    steady = link.follower()
    day_s = 86_400.0
    for _ in range(30):
        await link.history.say_no()
        for _ in range(4):
            await publisher.step()
            await publisher.full_made()
        await steady.look()
        link.clock.ahead_s += day_s
        for name in bucket.names():
            number = number_in(name.rpartition("/")[2])
            if number is not None and number / 1000 < link.clock.now_s() - LIFECYCLE_S:
                bucket.delete(name)
    await publisher.step()
    await steady.look()
    await link.pod.flushall()
    late = link.follower()
    await late.look()

    assert steady.counts[FollowEvent.FULL] == 1
    assert await link.followed() == await link.history.dump()
    latest = read(bucket.read("of/ours/LATEST"), TRUSTED)
    assert f"of/ours/{latest.full.name}" in bucket.names()


async def test_bucket_that_is_not_there_or_lacks_a_file_is_told(link: Link, bucket: Bucket) -> None:
    place = PublishedPlace(link.url)
    with pytest.raises(NotThere):
        await place.read("LATEST", 10)
    await place.put("LATEST", b"longer than that")
    with pytest.raises(WrongSize):
        await place.read("LATEST", 10)
    with pytest.raises(PlaceUnusable):
        PublishedPlace("s3://")
