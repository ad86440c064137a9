import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from typing import BinaryIO

import click
import msgspec

from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import by_command, run
from segments.ledger.database.engine import existing_ledger
from segments.model.explained_bid import AnswerForm, Asked, Explanation, in_words
from segments.settings import Settings
from segments.upkeep.explaining import Answer, ask_all, differ
from segments.upkeep.explaining import explain as ask_and_note
from segments.upkeep.listeners import Listeners

_HERE = "here"


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--recipient", help="The recipient that sends the bid; default the trusted caller.")
@click.option(
    "--at",
    type=click.DateTime(["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]),
    help="The moment of the bid, in UTC; default now.",
)
@click.option(
    "--form",
    type=click.Choice([form.value for form in AnswerForm]),
    default=AnswerForm.WHOLE.value,
    help="The form of the answer that leaves.",
)
@click.option(
    "--listener",
    "urls",
    multiple=True,
    help="URL of a listener's admin port, which then explains; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
def explain(
    file: BinaryIO,
    recipient: str | None,
    at: datetime | None,
    form: str,
    urls: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """
    Explain the outcome of the bid request in FILE, stage by stage; - is standard input.

    Without --listener, the command reads the configured store, and uses the bid listener's settings
    of this environment. It prints no identifier, and leaves a row in the audit trail.
    """
    try:
        request = file.read().decode()
    except UnicodeDecodeError:
        raise click.ClickException("the request is not UTF-8") from None
    settings = control_settings()
    asked = Asked(
        request,
        recipient,
        None if at is None else at.replace(tzinfo=UTC).timestamp(),
        AnswerForm(form),
    )
    answers = run(_answers(settings, Listeners(urls, settings.explain_secret), asked))
    given = [answer.explanation for answer in answers if answer.explanation is not None]
    if as_json:
        for explanation in given:
            click.echo(msgspec.json.encode(explanation))
    else:
        _print(answers)
    if not given:
        raise click.ClickException("; ".join(f"{each.url}: {each.trouble}" for each in answers))


async def _answers(settings: Settings, listeners: Listeners, asked: Asked) -> list[Answer]:
    ask = partial(ask_all, listeners) if listeners.urls else _ask_data_plane
    async with existing_ledger(settings.ledger_dsn) as ledger:
        return await ask_and_note(ledger, by_command(), asked, ask)


async def _ask_data_plane(asked: Asked) -> list[Answer]:
    return [await asyncio.to_thread(_of_data_plane, asked)]


def _of_data_plane(asked: Asked) -> Answer:
    """Ask a process of the data plane, which the control plane must not import."""
    done = subprocess.run(
        [sys.executable, "-m", "rtb", "explain", "--wire"],
        input=msgspec.json.encode(asked),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        return Answer(_HERE, trouble=done.stderr.decode(errors="replace").strip())
    return Answer(_HERE, msgspec.json.decode(done.stdout, type=Explanation))


def _print(answers: list[Answer]) -> None:
    if differ(answers):
        click.echo("The listeners answer differently:")
    for answer in answers:
        if len(answers) > 1:
            click.echo(f"{answer.url}: {answer.trouble}")
        if answer.explanation is not None:
            click.echo(in_words(answer.explanation), nl=False)
