import time
from hashlib import sha256
from urllib.parse import urlsplit

import click
from prometheus_client import CollectorRegistry

from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import ledger_to_write, run
from segments.files.published_place import PlaceUnusable, PublishedPlace
from segments.ledger import recipients
from segments.ledger.database.engine import reading
from segments.publish.keep_publishing import KeepPublishing, PublishMetrics
from segments.publish.publisher import Publisher
from segments.runtime.admin_port import shown
from segments.runtime.stopping import stopping_event
from segments.settings import Settings
from segments.store.embedded import opened
from segments.store.published.signing_key import UnusableKey, read_key

_NAME_CHARS = 16


@click.command()
@click.option(
    "--to", "url", required=True, help="Target: file:///DIRECTORY, s3://, gs:// or az://."
)
@click.option(
    "--recipient", "names", multiple=True, help="Publish this recipient's part; repeatable."
)
@click.option("--everything", is_flag=True, help="Publish the whole store to all readers.")
def publish(*, url: str, names: tuple[str, ...], everything: bool) -> None:
    """
    Publish the store as signed files, for pods without a network, until stopped.

    The files hold only the data that the named recipients may see, and the opt-outs that apply to
    it. Everyone with read access to the files can read all of that.
    """
    if bool(names) == everything:
        raise click.UsageError("name whose part it is by --recipient, or say --everything")
    settings = control_settings()
    run(_publish(settings, url, None if everything else names), listens=True)


async def _publish(settings: Settings, url: str, names: tuple[str, ...] | None) -> None:
    if settings.publish_key_file is None:
        raise click.ClickException(
            "SEGMENTS_PUBLISH_KEY_FILE is not set: make the key by `rtb-segments key publish FILE`"
        )
    try:
        key = read_key(settings.publish_key_file)
        place = PublishedPlace(url, is_made=True)
    except (UnusableKey, PlaceUnusable) as error:
        raise click.ClickException(str(error)) from None
    settings.spool_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    stopping, registry = stopping_event(), CollectorRegistry()
    async with (
        ledger_to_write(settings) as ledger,
        opened(settings.redis_url, settings.data_dir) as redis,
    ):
        async with reading(ledger) as conn:
            for name in names or ():
                await recipients.recipient(conn, name)
        publisher = Publisher(
            ledger,
            redis,
            place,
            key,
            names,
            settings.spool_dir,
            settings.publish_options,
            name=sha256(url.encode()).hexdigest()[:_NAME_CHARS],
            place_name=_without_secrets(url),
            now_s=time.time,
        )
        keeping = KeepPublishing(publisher, PublishMetrics(registry))
        async with shown(
            "SEGMENTS_PUBLISH_PORT",
            settings.admin_host,
            settings.publish_port,
            registry,
            keeping.reasons,
            settings.admin_tls,
            telemetry=settings.telemetry("publisher"),
        ):
            await keeping.run(stopping)


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
