"""The commands `sftp` and `key` of the SFTP door; `key --jwt` is for the Privacy API."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import click
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import logins
from segments.cli import privacy_keys as privacy_keys_commands
from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import by_command, keep, look, run
from segments.cli.publish_key import publish_key
from segments.cli.table import json_option, print_table
from segments.cli.tokens import account_option, internal_option
from segments.doors.callback_sender import CallbackMetrics, Callbacks
from segments.doors.live_audience.drop import Drop
from segments.doors.live_audience.file_names import folder_name
from segments.doors.live_audience.folder import DropFolder
from segments.doors.live_audience.metrics import DeliveryMetrics
from segments.doors.sftp.host_key import own_key
from segments.doors.sftp.metrics import SftpMetrics
from segments.doors.sftp.partner_keys import options_of
from segments.doors.sftp.public_key import MAX_FILE_BYTES, read_public_keys
from segments.doors.sftp.server import SftpServer
from segments.files.blobs import Blobs
from segments.ledger import accounts
from segments.ledger.database.engine import open_ledger
from segments.ledger.health import ledger_reasons
from segments.ledger.live_audience import ssh_keys
from segments.ledger.live_audience.host_keys import fingerprints
from segments.ledger.live_audience.ssh_keys import SshKey
from segments.ledger.processes import ProcessKind
from segments.model.account import Account
from segments.model.refusal import Refusal
from segments.projection.bucket_look import BucketLook
from segments.projection.ills import Ills
from segments.projection.ledger_guard import LedgerGuard
from segments.projection.one_ledger import before_making
from segments.runtime.admin_port import shown
from segments.settings import Settings
from segments.store.servers.connection import connect
from segments.upkeep.presence import present

_MAX_FOLDER_NAME = 255


@click.command()
@click.option(
    "--watch-only",
    is_flag=True,
    help="Run no SFTP server; only watch the folders in SEGMENTS_DROP_DIR.",
)
def sftp(watch_only: bool) -> None:
    """Accept partners' deliveries by SFTP, or directly in the drop folder."""
    settings = control_settings()
    run(_run(settings, listens=not watch_only), listens=True)


@click.group()
def key() -> None:
    """Manage keys for SFTP logins, the Privacy API's JWTs (--jwt) and publications."""


key.add_command(publish_key)


_jwt = click.option(
    "--jwt", "is_jwt", is_flag=True, help="Apply to keys that sign JWTs instead of SSH keys."
)


@key.command("add")
@_jwt
@click.argument("name", metavar="PARTNER|DOMAIN")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--kid", help="With --jwt: the key's name in cnf.kid of the JWTs.")
@account_option
@internal_option
def add_key(
    *,
    is_jwt: bool,
    name: str,
    file: Path,
    kid: str | None,
    account_id: str | None,
    is_internal: bool,
) -> None:
    """
    Let PARTNER log in with every public key in FILE, a .pub of ssh-keygen or authorized_keys.

    The options from=, expiry-time=, cert-authority and principals= of authorized_keys apply.

    With --jwt: accept data subject requests that DOMAIN signs with an RSA key;
    FILE holds its public half as PEM.
    """
    with file.open("rb") as opened_file:
        content = opened_file.read(MAX_FILE_BYTES + 1)
    if is_jwt != (kid is not None):
        raise click.UsageError("--jwt and --kid go together")
    if kid is not None:
        keep(privacy_keys_commands.adding(name, kid, content, account_id, is_internal=is_internal))
        return
    if account_id is not None or is_internal:
        raise click.UsageError("--account and --internal are for --jwt")

    async def add(conn: AsyncConnection) -> str:
        found = await accounts.partner(conn, name)
        if len(folder_name(found.public_id)) > _MAX_FOLDER_NAME:
            raise Refusal("the partner's id is too long to name a folder")
        added = read_public_keys(content, found.id)
        for each in added:
            await logins.add_ssh_key(conn, by_command(), found, each)
        return "\n".join(_said(name, each) for each in added)

    keep(add)


def _said(name: str, added: SshKey) -> str:
    if options_of(added).is_authority:
        return f"{name} may log in with certificates of {added.fingerprint}"
    return f"{name} may log in with {added.fingerprint}"


@key.command("host")
@click.option(
    "--replace",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="First replace the key of this algorithm by the private key in FILE.",
    metavar="FILE",
)
@json_option
def show_host_keys(file: Path | None) -> None:
    """
    Print the fingerprints of the SFTP servers' own keys, for partners to compare.

    The first server to start generates the keys. All servers of a ledger have the same; a
    replaced key is shown after their next start.
    """
    if file is not None:
        mine = file.read_bytes()

        async def replace(conn: AsyncConnection) -> str:
            replacing = own_key(mine)
            algorithm = replacing.get_algorithm()
            await logins.replace_host_key(
                conn, by_command(), algorithm, replacing.export_private_key()
            )
            return f"replaced the host key {algorithm}; start the SFTP servers again"

        keep(replace, err=True)
    found = look(fingerprints)
    if not found:
        raise click.ClickException(
            "there are no host keys yet: the first SFTP server to start generates them"
        )
    print_table(("algorithm", "fingerprint"), found)


@key.command("list")
@_jwt
@json_option
def list_keys(is_jwt: bool) -> None:
    """List all keys."""
    if is_jwt:
        privacy_keys_commands.print_all()
        return

    async def ask(conn: AsyncConnection) -> tuple[list[Account], list[SshKey]]:
        return await accounts.accounts(conn), await ssh_keys.keys(conn)

    every_account, found = look(ask)
    id_to_public_id = {account.id: account.public_id for account in every_account}
    print_table(
        ("partner", "fingerprint", "comment"),
        ((id_to_public_id[k.account_id], k.fingerprint, k.comment or None) for k in found),
    )


@key.command("remove")
@_jwt
@click.argument("name", metavar="PARTNER|DOMAIN")
@click.argument("fingerprint", metavar="FINGERPRINT|KID")
def remove_key(is_jwt: bool, name: str, fingerprint: str) -> None:
    """
    Remove a key of PARTNER; connections that logged in with it end within seconds.

    With --jwt: stop accepting requests that DOMAIN signs with its key KID.
    """
    if is_jwt:
        keep(privacy_keys_commands.removing(name, fingerprint))
        return

    async def remove(conn: AsyncConnection) -> str:
        found = await accounts.partner(conn, name)
        await logins.remove_ssh_key(conn, by_command(), found, fingerprint)
        return f"{name} may not log in with {fingerprint} any longer"

    keep(remove)


async def _run(settings: Settings, *, listens: bool) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopping.set)
    registry = CollectorRegistry()
    deliveries = DeliveryMetrics(registry)
    async with (
        connect(settings.store_url) as redis,
        open_ledger(settings.ledger_dsn, before_making(redis, settings.embedded_in)) as ledger,
    ):
        guard = LedgerGuard(ledger, redis)
        await guard.start()
        folders = DropFolder(settings.drop_folder)
        blobs = Blobs.open(settings.blobs_at, settings.reserve_bytes)
        drop = Drop(
            settings.drop_options,
            ledger,
            blobs,
            folders,
            metrics=deliveries,
            is_refused=lambda: bool(guard.reasons()),
        )
        callbacks = Callbacks(ledger, settings.callback_hosts, metrics=CallbackMetrics(registry))

        async def watch() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(guard.run(stopping))
                group.create_task(drop.run(stopping))
                group.create_task(callbacks.run(stopping))

        async def reasons() -> list[str]:
            return [*guard.reasons(), *await ledger_reasons(ledger)]

        async with AsyncExitStack() as opened:
            if listens:
                server = SftpServer(
                    settings.sftp_options,
                    ledger,
                    folders,
                    metrics=SftpMetrics(registry),
                    deliveries=deliveries,
                )
                await opened.enter_async_context(server.listening())
            await opened.enter_async_context(
                shown(
                    "SEGMENTS_SFTP_ADMIN_PORT",
                    settings.admin_host,
                    settings.sftp_admin_port,
                    registry,
                    reasons,
                    settings.admin_tls,
                    ills=Ills(
                        ledger,
                        blobs,
                        settings.drop_folder,
                        settings.reserve_bytes,
                        embedded_in=settings.embedded_in,
                        bucket=BucketLook(blobs),
                    ),
                    telemetry=settings.telemetry("sftp"),
                )
            )
            await opened.enter_async_context(present(ledger, ProcessKind.SFTP, reasons))
            await watch()
