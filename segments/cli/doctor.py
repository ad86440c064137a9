import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

import click
import orjson

from segments.cli.control_settings import control_settings, log_of_command
from segments.files.published_place import PlaceUnusable
from segments.processes.deployment import deployment_of
from segments.runtime.follow_settings import FollowSettings
from segments.runtime.settings_reader import read_settings
from segments.runtime.store_url import store_url
from segments.store.published.latest import Keys
from segments.upkeep.doctor.examination import examine
from segments.upkeep.doctor.findings import Finding, Grade
from segments.upkeep.doctor.follower import Pod, examine_pod


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(*, as_json: bool) -> None:
    """
    Check ledger, files and store, and say how to fix each problem.

    With RTB_FOLLOW, in a pod: check the publication, the follower and its store.

    The exit status is 1 if there is a problem.
    """
    following = read_settings(FollowSettings)
    if following.follow is None:
        found = examine(deployment_of(control_settings()))
        sys.exit(asyncio.run(_report(found, as_json=as_json)))
    log_of_command(following)
    try:
        pod = _pod(following, following.follow)
        sys.exit(asyncio.run(_report(examine_pod(pod), as_json=as_json)))
    except (PlaceUnusable, ValueError) as error:
        raise click.ClickException(f"RTB_FOLLOW: {error}") from None


async def _report(found: AsyncGenerator[Finding], *, as_json: bool) -> bool:
    is_bad = False
    said = []
    # Close it also without a reader of the output.
    async with aclosing(found) as findings:
        async for finding in findings:
            is_bad |= finding.grade is Grade.BAD
            if as_json:
                said.append({"grade": finding.grade.value, "what": finding.what})
            else:
                click.echo(f"{finding.grade.value:<4}  {finding.what}")
    if as_json:
        click.echo(orjson.dumps({"ok": not is_bad, "findings": said}, option=orjson.OPT_INDENT_2))
    return is_bad


def _pod(settings: FollowSettings, url: str) -> Pod:
    return Pod(
        url=url,
        trusted=Keys.of(settings.follow_keys),
        max_age_s=settings.follow_max_age_s,
        data_dir=settings.data_dir,
        store_url=store_url(None, settings.data_dir),
    )
