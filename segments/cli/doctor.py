"""`rtb-segments doctor`: what the service stands on, looked at once."""

import asyncio
import sys

import click

from segments.cli.control_settings import control_settings
from segments.upkeep.doctor import Deployment, Grade, examine


@click.command()
def doctor() -> None:
    """Check ledger and store, and say what to do; exit status 1 if something is wrong."""
    settings = control_settings()
    deployment = Deployment(
        ledger_url=settings.ledger_dsn,
        store_url=settings.store_url,
        embedded_store=settings.embedded_store,
        expected_ids=settings.expected_ids,
    )

    async def report() -> bool:
        is_bad = False
        async for finding in examine(deployment):
            click.echo(f"{finding.grade.value:<4}  {finding.what}")
            is_bad |= finding.grade is Grade.BAD
        return is_bad

    sys.exit(asyncio.run(report()))
