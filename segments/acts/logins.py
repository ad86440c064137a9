"""Acts on credentials: users of the REST doors, SSH keys of the SFTP door."""

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note
from segments.ledger import accounts, users
from segments.ledger.live_audience import host_keys, ssh_keys
from segments.ledger.live_audience.ssh_keys import SshKey
from segments.ledger.users import User
from segments.model.account import Account


async def add_user(
    conn: AsyncConnection,
    by: By,
    username: str,
    account: Account,
    password_hash: str,
    *,
    is_admin: bool = False,
    must_change: bool = False,
) -> User:
    """Add a user who logs in for an account."""
    added = await users.add_user(
        conn,
        username,
        account,
        password_hash,
        is_admin=is_admin,
        must_change=must_change,
        now_s=by.now_s,
    )
    detail = {"admin": True} if is_admin else None
    await note(conn, by, "user add", username, scope=account, detail=detail)
    return added


async def set_admin(conn: AsyncConnection, by: By, user: User, *, is_admin: bool) -> None:
    """Let a user manage the account's keys and logins in the console, or no longer."""
    if is_admin == user.is_admin:
        return
    await users.set_admin(conn, user, is_admin=is_admin)
    account = await accounts.account(conn, user.account_id)
    await note(conn, by, "user admin", user.username, scope=account, detail={"admin": is_admin})


async def end_sessions(conn: AsyncConnection, by: By, user: User) -> None:
    """End a user's logins; the user may log in again."""
    await users.end_sessions(conn, user)
    account = await accounts.account(conn, user.account_id)
    await note(conn, by, "user end sessions", user.username, scope=account)


async def set_password(
    conn: AsyncConnection, by: By, user: User, password_hash: str, *, must_change: bool = False
) -> None:
    """Change a user's password, and end the user's open sessions."""
    await users.set_password(conn, user, password_hash, must_change=must_change)
    account = await accounts.account(conn, user.account_id)
    await note(conn, by, "user password", user.username, scope=account)


async def revoke_user(conn: AsyncConnection, by: By, user: User) -> None:
    """Revoke a user's access."""
    await users.revoke(conn, user)
    account = await accounts.account(conn, user.account_id)
    await note(conn, by, "user revoke", user.username, scope=account)


async def add_ssh_key(conn: AsyncConnection, by: By, partner: Account, key: SshKey) -> None:
    """Add an SSH key for a partner's logins."""
    await ssh_keys.add_key(conn, key, now_s=by.now_s)
    detail = {"fingerprint": key.fingerprint}
    await note(conn, by, "ssh key add", partner.public_id, scope=partner, detail=detail)


async def remove_ssh_key(conn: AsyncConnection, by: By, partner: Account, fingerprint: str) -> None:
    """Remove an SSH key from a partner's logins."""
    await ssh_keys.remove_key(conn, partner, fingerprint)
    detail = {"fingerprint": fingerprint}
    await note(conn, by, "ssh key remove", partner.public_id, scope=partner, detail=detail)


async def replace_host_key(
    conn: AsyncConnection, by: By, algorithm: str, private_key: bytes
) -> None:
    """Replace the SFTP servers' host key of an algorithm from their next start on."""
    await host_keys.replace_key(conn, algorithm, private_key, now_s=by.now_s)
    detail = {"fingerprint": host_keys.fingerprint_of(private_key)}
    await note(conn, by, "host key replace", algorithm, detail=detail)
