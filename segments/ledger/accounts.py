"""Queries of accounts: partners, their sub accounts, publishers, media groups."""

from typing import Any

from sqlalchemy import Row, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.checked_text import checked_text
from segments.ledger.revision import lock_catalog, raise_revision
from segments.ledger.tables import account_relations
from segments.ledger.tables import accounts as _accounts
from segments.ledger.tables import jobs as _jobs
from segments.model.account import (
    PARENT_KINDS,
    PARTNER_KINDS,
    PARTNERS,
    Account,
    AccountKind,
    AccountTree,
    id_space,
)
from segments.model.refusal import Duplicate, NotFound, Refusal

_COLUMNS = (
    _accounts.c.id,
    _accounts.c.kind,
    _accounts.c.public_id,
    _accounts.c.name,
    _accounts.c.parent_id,
    _accounts.c.segtax,
    _accounts.c.is_active,
)


async def add_account(
    conn: AsyncConnection,
    kind: AccountKind,
    public_id: str,
    name: str,
    *,
    parent: Account | None = None,
    segtax: int | None = None,
    now_s: float,
) -> Account:
    """
    Add an account.

    `public_id` is `partner_id`, `sub_id` or `publisher.id`; a partner's `name` is also in bid
    requests; `parent` is a sub account's partner, or the media group; `segtax` is
    `Data.ext.segtax`, `None` for a private taxonomy.

    Raises:
        Duplicate: The public id is taken in its id space.
        Refusal: The parent does not fit, or a text is unusable.
    """
    checked_text("id", public_id, max_chars=128)
    checked_text("name", name, max_chars=256)
    if parent is not None and parent.kind not in PARENT_KINDS[kind]:
        raise Refusal(f"{_a(kind)} can't stand under {_a(parent.kind)} ({parent.public_id})")
    if parent is not None and (await partner_of(conn, parent)).id != parent.id:
        raise Refusal(f"{parent.public_id} is a sub account, and has none of its own")
    if segtax is not None and not (kind in PARTNER_KINDS and 0 < segtax < 2**31):
        raise Refusal("segtax is a positive number, and only partners have one")
    parent_id = None if parent is None else parent.id
    row = {
        "kind": kind.value,
        "public_id": public_id,
        "id_space": id_space(kind, parent),
        "name": name,
        "parent_id": parent_id,
        "segtax": segtax,
        "created_at_s": int(now_s),
    }
    await lock_catalog(conn)
    try:
        async with conn.begin_nested():
            inserted = await conn.execute(insert(_accounts).values(row).returning(_accounts.c.id))
            new_id: int = inserted.scalar_one()
    except IntegrityError:
        raise Duplicate(f"there is a {_called(kind, parent)} {public_id} already") from None
    await raise_revision(conn)
    return Account(new_id, kind, public_id, name, parent_id, segtax)


async def relate(conn: AsyncConnection, publisher: Account, advertiser: Account) -> None:
    """
    Relate a publisher and an advertiser: the publisher's opt-outs reach the advertiser.

    Raises:
        Refusal: They are not a publisher and a partner.
    """
    if publisher.kind is not AccountKind.PUBLISHER or advertiser.kind not in PARTNER_KINDS:
        raise Refusal(
            f"a publisher is related to a partner, not {_a(publisher.kind)} to"
            f" {_a(advertiser.kind)}"
        )
    pair = {"publisher_id": publisher.id, "advertiser_id": advertiser.id}
    await lock_catalog(conn)
    try:
        async with conn.begin_nested():
            await conn.execute(insert(account_relations).values(pair))
    except IntegrityError:
        return
    await raise_revision(conn)
    # The publisher's erasures now reach these files: scrub them from the start.
    reached = [advertiser.id, *[a.id for a in await accounts(conn) if a.parent_id == advertiser.id]]
    await conn.execute(
        update(_jobs)
        .where(_jobs.c.owner_id.in_(reached), _jobs.c.scrubbed_seq > 0)
        .values(scrubbed_seq=0)
    )


async def unrelate(conn: AsyncConnection, publisher: Account, advertiser: Account) -> None:
    """
    Unrelate a publisher and an advertiser.

    Raises:
        NotFound: They are not related.
    """
    await raise_revision(conn)
    deleted = await conn.execute(
        delete(account_relations).where(
            account_relations.c.publisher_id == publisher.id,
            account_relations.c.advertiser_id == advertiser.id,
        )
    )
    if not deleted.rowcount:
        raise NotFound(
            f"publisher {publisher.public_id} is not related to partner {advertiser.public_id}"
        )


async def set_account_active(conn: AsyncConnection, account: Account, is_active: bool) -> None:
    """Switch an account on or off. Off hides its segments, not its opt-outs."""
    await raise_revision(conn)
    await conn.execute(
        update(_accounts).where(_accounts.c.id == account.id).values(is_active=is_active)
    )


async def find_partner(conn: AsyncConnection, partner_id: str) -> Account | None:
    """Return a partner by its `partner_id`."""
    return await _find(conn, PARTNERS, partner_id)


async def find_sub_account(
    conn: AsyncConnection, its_partner: Account, sub_id: str
) -> Account | None:
    """Return a partner's sub account by its `sub_id`."""
    return await _find(conn, id_space(AccountKind.ADVERTISER, its_partner), sub_id)


async def has_sub_accounts(conn: AsyncConnection, its_partner: Account) -> bool:
    """Tell whether a partner has sub accounts."""
    asked = select(_accounts.c.id).where(_accounts.c.parent_id == its_partner.id).limit(1)
    return (await conn.execute(asked)).first() is not None


async def find_publisher(conn: AsyncConnection, publisher_id: str) -> Account | None:
    """Return a publisher by its `publisher.id`."""
    return await _find(conn, id_space(AccountKind.PUBLISHER, None), publisher_id)


async def partner(conn: AsyncConnection, partner_id: str, sub_id: str | None = None) -> Account:
    """
    Return a partner or sub account by its ids.

    Raises:
        NotFound: No such account.
    """
    found = await find_partner(conn, partner_id)
    if found is None:
        raise NotFound(f"there is no partner {partner_id}")
    if sub_id is None:
        return found
    sub = await find_sub_account(conn, found, sub_id)
    if sub is None:
        raise NotFound(f"partner {partner_id} has no sub account {sub_id}")
    return sub


async def publisher(conn: AsyncConnection, publisher_id: str) -> Account:
    """
    Return a publisher by its id.

    Raises:
        NotFound: No such publisher.
    """
    found = await find_publisher(conn, publisher_id)
    if found is None:
        raise NotFound(f"there is no publisher {publisher_id}")
    return found


async def named(conn: AsyncConnection, text: str) -> Account:
    """
    Return an account by name: `ID`, `KIND:ID`, or `PARTNER/ID` for a sub account.

    Raises:
        NotFound: No such account.
        Refusal: The name is ambiguous.
    """
    prefix, colon, rest = text.partition(":")
    kinds = (
        frozenset({AccountKind(prefix)})
        if colon and prefix in list(AccountKind)
        else frozenset(AccountKind)
    )
    public_id = rest if len(kinds) == 1 else text
    every_account = await accounts(conn)
    found = [a for a in every_account if a.kind in kinds and a.public_id == public_id]
    if not found and "/" in public_id:
        partner_id, _, sub_id = public_id.partition("/")
        partners = {
            a.id for a in every_account if a.kind in PARTNER_KINDS and a.public_id == partner_id
        }
        found = [a for a in every_account if a.parent_id in partners and a.public_id == sub_id]
    if not found:
        raise NotFound(f"there is no account {text}")
    if len(found) > 1:
        kinds_of = ", ".join(sorted(f"{a.kind.value}:{a.public_id}" for a in found))
        raise Refusal(f"several accounts are called {text}; say KIND:ID or PARTNER/ID ({kinds_of})")
    return found[0]


async def possible_parent(conn: AsyncConnection, kind: AccountKind, public_id: str) -> Account:
    """
    Return the account with this id that can be this kind's parent.

    Raises:
        NotFound: No such account.
        Refusal: This kind has no parent, or both a partner and a media group have the id.
    """
    kinds = [parent_kind.value for parent_kind in PARENT_KINDS[kind]]
    asked = _select().where(
        _accounts.c.public_id == public_id,
        _accounts.c.kind.in_(kinds),
        _accounts.c.id_space.in_((PARTNERS, *kinds)),  # no sub account
    )
    found = [_account(row) for row in await conn.execute(asked)]
    if not kinds:
        raise Refusal(f"{_a(kind)} stands under no other account")
    if not found:
        wanted = " or ".join(sorted(kinds)).replace("_", " ")
        raise NotFound(f"there is no {wanted} {public_id}")
    if len(found) > 1:
        raise Refusal(f"{public_id} is both a partner and a media group")
    return found[0]


async def account(conn: AsyncConnection, account_id: int) -> Account:
    """Return an account by its number."""
    return _account((await conn.execute(_select().where(_accounts.c.id == account_id))).one())


async def below(conn: AsyncConnection, account: Account) -> list[Account]:
    """Return an account's children, oldest first."""
    asked = _select().where(_accounts.c.parent_id == account.id).order_by(_accounts.c.id)
    return [_account(row) for row in await conn.execute(asked)]


async def partner_of(conn: AsyncConnection, owner: Account) -> Account:
    """Return an account's parent if that is a partner, else the account."""
    if owner.parent_id is not None:
        parent = await account(conn, owner.parent_id)
        if parent.kind in PARTNER_KINDS:
            return parent
    return owner


async def lock(conn: AsyncConnection, account_id: int) -> None:
    """Lock an account's row; without effect on SQLite, where writers take turns."""
    await conn.execute(select(_accounts.c.id).where(_accounts.c.id == account_id).with_for_update())


async def accounts(conn: AsyncConnection) -> list[Account]:
    """Return all accounts, oldest first."""
    return [_account(row) for row in await conn.execute(_select().order_by(_accounts.c.id))]


async def relations(conn: AsyncConnection) -> list[tuple[int, int]]:
    """Return the numbers of all related publishers and advertisers."""
    columns = (account_relations.c.publisher_id, account_relations.c.advertiser_id)
    pairs = await conn.execute(select(*columns).order_by(*columns))
    return [(publisher_id, advertiser_id) for publisher_id, advertiser_id in pairs]


async def tree(conn: AsyncConnection) -> AccountTree:
    """Return all accounts and their relations."""
    return AccountTree(await accounts(conn), await relations(conn))


async def _find(conn: AsyncConnection, space: str, public_id: str) -> Account | None:
    asked = _select().where(_accounts.c.id_space == space, _accounts.c.public_id == public_id)
    row = (await conn.execute(asked)).one_or_none()
    return None if row is None else _account(row)


def _select() -> Select[*tuple[Any, ...]]:
    return select(*_COLUMNS)


def _account(row: Row[*tuple[Any, ...]]) -> Account:
    return Account(**{**row._asdict(), "kind": AccountKind(row.kind)})


def _called(kind: AccountKind, parent: Account | None) -> str:
    if parent is not None and parent.kind in PARTNER_KINDS:
        return f"sub account of {parent.public_id} called"
    return "partner" if kind in PARTNER_KINDS else kind.in_words


def _a(kind: AccountKind) -> str:
    article = "an" if kind.value.startswith("a") else "a"
    return f"{article} {kind.in_words}"
