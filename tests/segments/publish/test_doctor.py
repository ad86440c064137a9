"""`doctor` tells how old each publication is, and how to mend it."""

from redis.asyncio import Redis

from segments.cli.publish import _without_secrets
from segments.files.published_place import PublishedPlace
from segments.publish.options import PublishOptions
from segments.publish.publisher import Publisher
from segments.store.changed_buckets import ChangedBuckets
from segments.store.reader import read_meta
from segments.upkeep.doctor.findings import Grade
from segments.upkeep.doctor.publications import look_at_publications
from tests.segments.follow.conftest import KEY, Link


async def test_age_of_each_publication_is_told(link: Link, redis: Redis) -> None:
    publisher = Publisher(
        link.history.ledger,
        redis,
        PublishedPlace(link.url, is_made=True),
        KEY,
        None,
        link.tmp_path,
        PublishOptions(),
        name="x",
        place_name="s3://bucket/seg",
        now_s=link.clock.now_s,
    )
    await publisher.step()
    meta = await read_meta(redis)
    await ChangedBuckets(redis, "y", "gs://other").begin(meta, link.clock.now_s())

    for ahead_s, grade, said in (
        (5, Grade.GOOD, " s old"),
        (70, Grade.POOR, "start `rtb-segments publish`"),
    ):
        now_s = link.clock.now_s() + ahead_s
        other, ours = [finding async for finding in look_at_publications(redis, now_s)]
        assert ours.grade is grade
        assert "s3://bucket/seg" in ours.what
        assert said in ours.what
        assert (other.grade, "nothing is published yet" in other.what) == (Grade.POOR, True)


def test_secrets_of_a_url_are_kept_out() -> None:
    assert _without_secrets("az://name:key@box/seg?sig=abc#x") == "az://box/seg"
