"""
Rules: where a bid request has identifiers, of which kind.

OpenRTB has no field for a hashed e-mail address, so rules are configured, in the order of trust.
`DEFAULT_RULES` is the table of docs/bid-path.md. A rule reads `eids` or a path:

    {"kind": "email", "source": "liveintent.com"}              eids of that source
    {"kind": "email", "stype": ["hemsha256"]}                  uids with such an ext.stype
    {"kind": "eid", "provider": "liveintent.com"}              uids with that ext.provider
    {"kind": "ifa", "path": "device.ifa"}                      a string, or an array of strings
    {"kind": "eid", "path": "user.buyeruid", "source": "buyeruid"}

`rtb.identify` applies them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rtb.openrtb.targeting import NAMED_EMAIL, NAMED_IFA, NAMED_PHONE
from segments.model.identity import IdentifierKind

ENCRYPTED_SOURCE = "uidapi.com"
"""UID2: encrypted tokens that change each time."""


@dataclass(frozen=True, slots=True)
class IdRule:
    """The place and the kind of an identifier in a bid request."""

    # Rules are JSON in the settings: an unknown field name is an error.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - no field

    kind: IdentifierKind
    path: str | None = None
    source: str | None = None
    stype: tuple[str, ...] = ()
    provider: str | None = None

    def __post_init__(self) -> None:
        """Refuse a rule that is ambiguous or empty."""
        if (self.source or "").lower() == ENCRYPTED_SOURCE:
            raise ValueError(f"{ENCRYPTED_SOURCE} ids are encrypted tokens, never a lookup key")
        if self.path is not None:
            if self.stype or self.provider:
                raise ValueError("a rule reads eids or a path, not both")
            if not all(self.path.split(".")):
                raise ValueError("a path is names with dots between them")
            if (self.kind is IdentifierKind.EID) != bool(self.source):
                raise ValueError("a path of kind eid, and no other, needs a source")
        elif sum((bool(self.source), bool(self.stype), bool(self.provider))) != 1:
            raise ValueError("a rule for eids needs one of source, stype, provider")


DEFAULT_RULES: tuple[IdRule, ...] = (
    IdRule(IdentifierKind.EMAIL, path="user.ext.hashes.email"),
    IdRule(IdentifierKind.EMAIL, stype=("hemsha256", "hemmd5", "hemsha1")),
    IdRule(IdentifierKind.EMAIL, source="liveintent.com"),
    IdRule(IdentifierKind.DUID, source="fpid.liveintent.com"),
    IdRule(IdentifierKind.EID, source="liveintent.com"),
    IdRule(IdentifierKind.EID, provider="liveintent.com"),
    IdRule(IdentifierKind.IFA, path="device.ifa"),
)
"""
The strongest claim to a single person first; of several ids, the first known decides the hold-out.
"""


def with_named_kinds(rules: Iterable[IdRule]) -> tuple[IdRule, ...]:
    """
    Return the rules for `rtb.openrtb.targeting`, whose ids name their own kind.

    Ids named as hashed e-mail addresses, phone numbers or device ids are read as such; others
    follow the rules.
    """
    return (
        IdRule(IdentifierKind.EMAIL, source=NAMED_EMAIL),
        IdRule(IdentifierKind.PHONE, source=NAMED_PHONE),
        *rules,
        IdRule(IdentifierKind.IFA, source=NAMED_IFA),
    )
