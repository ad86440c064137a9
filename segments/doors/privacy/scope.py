"""
The scope of a Privacy API request, and its form in answers.

    in requests   null, or {"entity_type": "publisher", "id": 7}
    in answers    {"Publisher": {"id": 7}}, {"PublisherMediaGroup": {"pid": 7, "mid": 2}},
                  {"MediaGroup": {"id": 2}}, {"Advertiser": {"id": 9}}, {"Global": {}}

`id` is the account's `publisher.id` or `partner_id` in bid requests and files: the vendor's are
integers, other ids are strings here. An agency is an advertiser, with its own audiences and its sub
accounts'.

A null scope is the reach of the caller's account. A narrower scope names an account in that reach;
a wider scope is refused.
"""

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from segments.doors.rest.known_members import KnownForm
from segments.doors.rest.schemas import Form, PrintableText
from segments.model.account import PARTNER_KINDS, Account, AccountKind, AccountTree

_KINDS = {
    "advertiser": PARTNER_KINDS,
    "publisher": frozenset({AccountKind.PUBLISHER}),
    "media_group": frozenset({AccountKind.MEDIA_GROUP}),
}

AccountName = Annotated[StrictInt, Field(ge=0, lt=2**63)] | PrintableText


class AdvertiserScope(KnownForm):
    """One advertiser or agency."""

    entity_type: Literal["advertiser"]
    id: AccountName


class PublisherScope(KnownForm):
    """One publisher and its related advertisers."""

    entity_type: Literal["publisher"]
    id: AccountName


class MediaGroupScope(KnownForm):
    """One media group, its publishers and its advertisers."""

    entity_type: Literal["media_group"]
    id: AccountName


class GlobalScope(KnownForm):
    """Everyone."""

    entity_type: Literal["global"]


Scope = Annotated[
    AdvertiserScope | PublisherScope | MediaGroupScope | GlobalScope,
    Field(discriminator="entity_type"),
]


class Named(Form):
    """An account."""

    id: int | str


class NamedPublisher(Form):
    """A publisher and its media group."""

    pid: int | str
    mid: int | str


class Everyone(Form):
    """No account in particular."""


class ScopeAnswer(Form):
    """The reach of a request: one of these members."""

    Advertiser: Named | None = None
    Publisher: Named | None = None
    MediaGroup: Named | None = None
    PublisherMediaGroup: NamedPublisher | None = None
    Global: Everyone | None = None


class OutOfScope(Exception):
    """The caller may not reach the scope; the message says what to do."""


class AmbiguousScope(Exception):
    """Several accounts in reach have the scope's id."""


def resolved(
    tree: AccountTree, account: Account | None, scope: Scope | Account | None
) -> int | None:
    """
    Return the account that a request is scoped to; `None` for everyone.

    `account` is the caller's; `None`: global. `scope` is as submitted, or an account of a page.

    Raises:
        OutOfScope: The account does not exist, or the caller may not act for it. Both look the
            same.
        AmbiguousScope: Sub accounts of several agencies have this id.
    """
    if scope is None:
        return None if account is None else account.id
    if isinstance(scope, Account):
        if account is None or scope.id in tree.within(account.id):
            return scope.id
        raise _out_of_scope()
    if isinstance(scope, GlobalScope):
        if account is None:
            return None
        raise OutOfScope("the scope is global and the account is not")
    found = tree.of_kind(_KINDS[scope.entity_type], str(scope.id))
    if account is not None:
        within = tree.within(account.id)
        found = [each for each in found if each.id in within]
    if not found:
        raise _out_of_scope()
    if len(found) > 1:
        raise AmbiguousScope("several sub accounts are called so; use a token of one of them")
    return found[0].id


def _out_of_scope() -> OutOfScope:
    return OutOfScope("the scope is no account that this account may act for")


def told(tree: AccountTree, account_id: int | None) -> ScopeAnswer:
    """Return the scope of a request in the form of the answers."""
    if account_id is None:
        return ScopeAnswer(Global=Everyone())
    account = tree.account(account_id)
    name = Named(id=_name(account))
    match account.kind:
        case AccountKind.MEDIA_GROUP:
            return ScopeAnswer(MediaGroup=name)
        case AccountKind.PUBLISHER if account.parent_id is not None:
            group = _name(tree.account(account.parent_id))
            return ScopeAnswer(PublisherMediaGroup=NamedPublisher(pid=name.id, mid=group))
        case AccountKind.PUBLISHER:
            return ScopeAnswer(Publisher=name)
        case _:
            return ScopeAnswer(Advertiser=name)


def _name(account: Account) -> int | str:
    text = account.public_id
    is_number = text.isascii() and text.isdecimal() and str(int(text)) == text
    return int(text) if is_number else text
