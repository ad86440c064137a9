from pathlib import Path

import click

from segments.store.published.latest import public_text
from segments.store.published.signing_key import UnusableKey, make_key, read_key


@click.command("publish")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--show", is_flag=True, help="Print the public key of the existing FILE; make none.")
def publish_key(*, file: Path, show: bool) -> None:
    """
    Make a key that signs publications, in a new FILE, and print its public key.

    Set SEGMENTS_PUBLISH_KEY_FILE to FILE, and add the public key to each follower's
    RTB_FOLLOW_KEYS.
    """
    try:
        key = read_key(file) if show else make_key(file)
    except UnusableKey as error:
        raise click.ClickException(str(error)) from None
    click.echo(public_text(key.public_key()))
