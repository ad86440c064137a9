"""
Where identifiers stand in a bid request, and what they are: the rules.

OpenRTB has no slot for a hashed e-mail address, so this is configured: a list of
rules, in the order of trust. `DEFAULT_RULES` are the table of docs/bid-path.md. A
rule reads either the `eids` or one path:

    {"kind": "email", "source": "liveintent.com"}              eids of that source
    {"kind": "email", "stype": ["hemsha256"]}                  uids whose ext.stype is one of these
    {"kind": "eid", "provider": "liveintent.com"}              uids whose ext.provider is this
    {"kind": "ifa", "path": "device.ifa"}                      a string, or an array of them
    {"kind": "eid", "path": "user.buyeruid", "source": "buyeruid"}

`rtb.identify` follows them.
"""

from dataclasses import dataclass

from segments.model.identity import IdentifierKind

ENCRYPTED_SOURCE = "uidapi.com"
"""UID2: its ids are encrypted tokens, another one each time, never a lookup key."""


@dataclass(frozen=True, slots=True)
class IdRule:
    """Where one sort of identifier stands in a bid request, and what it is."""

    # For the settings, which read rules from JSON: a misspelt name is an error.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - no field

    kind: IdentifierKind
    path: str | None = None
    source: str | None = None
    stype: tuple[str, ...] = ()
    provider: str | None = None

    def __post_init__(self) -> None:
        """Refuse a rule that could mean two things, or nothing."""
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
The defaults; the strongest claim to be one person first. Of several ids the
first that is known decides the hold-out.
"""
