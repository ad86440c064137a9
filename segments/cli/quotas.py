"""The command `account quota`: limits of a partner's usage."""

import time

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.quotas import set_quota
from segments.cli.ledger_access import by_command, keep, look
from segments.cli.table import json_option, print_table
from segments.ledger import accounts, quotas
from segments.model.quota import NAME_TO_WORDS, Quota, Use

NO_LIMIT = "none"


class _Limit(click.ParamType[int | str]):
    name = "number"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if value == NO_LIMIT:
            return value
        if not (value.isascii() and value.isdecimal()) or int(value) >= 1 << 63:
            self.fail(f"not a whole number, nor `{NO_LIMIT}`", param, ctx)
        return int(value)


@click.command("quota")
@click.argument("partner_id")
@click.option("--deliveries-per-day", type=_Limit(), help="Files, chunks and runs per UTC day.")
@click.option(
    "--delivered-bytes-per-day", type=_Limit(), help="Original size of these files per UTC day."
)
@click.option("--kept-bytes", type=_Limit(), help="Original size of all kept files.")
@click.option("--audiences", type=_Limit(), help="Audiences that are not deleted.")
@json_option
def quota(partner_id: str, **limits: int | str | None) -> None:
    """
    Limit the usage of PARTNER_ID, including its sub accounts; `none` removes a limit.

    Limits that are not given stay unchanged. Without options, the command shows limits and usage.
    """
    said = {name: limit for name, limit in limits.items() if limit is not None}
    if said:
        _set(partner_id, {n: None if v == NO_LIMIT else int(v) for n, v in said.items()})
        return

    async def ask(conn: AsyncConnection) -> tuple[Quota, Use]:
        partner = await accounts.partner(conn, partner_id)
        use = await quotas.use_of(conn, partner.id, time.time())
        return await quotas.quota_of(conn, partner.id), use

    found, use = look(ask)
    print_table(
        ("quota", "limit", "used"),
        [
            (words, getattr(found, name), getattr(use, name))
            for name, words in NAME_TO_WORDS.items()
        ],
    )


def _set(partner_id: str, limits: dict[str, int | None]) -> None:
    async def change(conn: AsyncConnection) -> str:
        partner = await accounts.partner(conn, partner_id)
        now = (await quotas.quota_of(conn, partner.id))._replace(**limits)
        await set_quota(conn, by_command(), partner, now)
        return ", ".join(
            f"{NAME_TO_WORDS[name]} {NO_LIMIT if limit is None else limit}"
            for name, limit in now._asdict().items()
        )

    keep(change)
