"""
Bid requests that can be said in JSON and in protobuf, and what a store holds of their persons.

By chance, and of few different values, so that they meet: ids that are known and that are not, in
every place that both encodings have; signals that permit, refuse and can't be read; segments that
are there already; persons who have opted out of all, of a publisher, or to one partner.
"""

from dataclasses import replace
from random import Random
from typing import Any

from rtb.catalog import Catalog
from rtb.id_rules import DEFAULT_RULES, IdRule
from rtb.pipeline import Pipeline
from segments.model.catalog import AccountEntry, RecipientEntry
from segments.model.identity import (
    Id,
    IdentifierKind,
    id_of_duid,
    id_of_eid,
    id_of_email_hash,
    id_of_ifa,
)
from segments.model.record import EVERYONE, OptOut, OptOutAction
from tests.rtb.consent.strings import gpp_string, tc_string, us_section
from tests.rtb.requests import BANK, OPTIONS, SHOP, packed, snapshot

IFA = "6d92078a-8246-4ba4-ae5b-76104861e7dc"
DIGESTS = tuple(digit * 64 for digit in "abcdef")
PUBLISHER = AccountEntry(3, "publisher", "p1", "News", is_active=True)
DSP = "dsp"

PIPELINE = Pipeline(
    replace(
        OPTIONS,
        max_ids=4,
        id_rules=(
            *DEFAULT_RULES,
            IdRule(IdentifierKind.EID, source="id5-sync.com"),
            IdRule(IdentifierKind.EID, path="user.buyeruid", source="buyeruid"),
        ),
    )
)
CATALOG = Catalog.from_snapshot(
    snapshot(
        accounts=(SHOP, BANK, PUBLISHER),
        recipients=(
            RecipientEntry(1, DSP, is_active=True, partner_ids=(1, 2), hold_out=0.2),
            RecipientEntry(2, "one", is_active=True, partner_ids=(1,)),
        ),
    )
)


def _no(account_id: int) -> tuple[OptOut, ...]:
    return (OptOut(account_id, OptOutAction.RESTRICT),)


STORE: dict[Id, bytes] = {
    id_of_email_hash(DIGESTS[0]): packed(1, 2, 11),
    id_of_email_hash(DIGESTS[1]): packed(3, 4),
    id_of_email_hash(DIGESTS[2]): packed(1, opt_outs=_no(EVERYONE)),
    id_of_email_hash(DIGESTS[3]): packed(1, 11, opt_outs=_no(PUBLISHER.id)),
    id_of_email_hash(DIGESTS[4]): packed(1, 11, opt_outs=_no(SHOP.id)),
    id_of_ifa(IFA): packed(5),
    id_of_duid("duid-1"): packed(2, 3),
    id_of_eid("id5-sync.com", "known"): packed(11),
    id_of_eid("buyeruid", "buyer-1"): packed(4),
}

_SOURCES = ("liveintent.com", "fpid.liveintent.com", "id5-sync.com", "uidapi.com", "other.example")
_UIDS = (*DIGESTS, f" {DIGESTS[1]} ", "duid-1", "known", "unknown", "", "é")
_CONSENTS = (tc_string(), tc_string(purposes=()), "", "nonsense")
_GPPS = (gpp_string({7: us_section(7)}), gpp_string({7: us_section(7, SaleOptOut=1)}), "", "x~y")
_GPP_SIDS: tuple[list[int], ...] = ([7], [-1], [2], [], [7, 8])
_US_PRIVACIES = ("1YNN", "1YYN", "1---", "", "nonsense")
_GPCS = ("0", "1", "", "yes")


def bid_request(rng: Random) -> dict[str, Any]:
    """Make one, as decoded JSON; nothing stands in it that protobuf has no number for."""
    user = _some(
        rng,
        0.3,
        buyeruid=rng.choice(("buyer-1", "buyer-2", "")),
        consent=rng.choice(_CONSENTS),
        data=[_data(rng) for _ in range(rng.randrange(3))],
        eids=_eids(rng),
        ext=_some(rng, 0.4, consent=rng.choice(_CONSENTS), eids=_eids(rng)),
    )
    if rng.random() < 0.8:
        user["eids"] = _eids(rng)
    regs = _some(
        rng,
        0.12,
        coppa=rng.choice((0, 0, 1)),
        gdpr=rng.choice((0, 1)),
        gpp=rng.choice(_GPPS),
        gpp_sid=rng.choice(_GPP_SIDS),
        us_privacy=rng.choice(_US_PRIVACIES),
        ext=_some(
            rng,
            0.3,
            gdpr=rng.choice((0, 1)),
            us_privacy=rng.choice(_US_PRIVACIES),
            gpc=rng.choice(_GPCS),
        ),
    )
    device = _some(
        rng,
        0.3,
        ifa=rng.choice((IFA, IFA.upper(), "00000000-0000-0000-0000-000000000000", "x")),
        lmt=rng.choice((0, 0, 0, 1)),
        dnt=rng.choice((0, 1)),
        ext=_some(rng, 0.3, atts=rng.choice((3, 3, 0, 2, 7))),
    )
    publisher = {"publisher": {"id": rng.choice(("p1", "p2"))}}
    return {
        "id": f"b{rng.randrange(1000)}",
        "imp": [{"id": "1", "bidfloor": 0.5}],
        "user": user,
        **_some(rng, 0.7, regs=regs, device=device),
        **({rng.choice(("site", "app", "dooh")): publisher} if rng.random() < 0.7 else {}),
    }


def _eids(rng: Random) -> list[dict[str, Any]]:
    return [
        _some(
            rng,
            0.97,
            source=rng.choice(_SOURCES) if rng.random() < 0.4 else _SOURCES[0],
            uids=[_some(rng, 0.97, id=rng.choice(_UIDS)) for _ in range(rng.choice((1, 1, 2)))],
        )
        for _ in range(rng.choice((0, 1, 1, 2, 3)))
    ]


def _data(rng: Random) -> dict[str, Any]:
    segments = [{"id": rng.choice(("101", "102", "103", "201"))} for _ in range(rng.randrange(4))]
    return _some(rng, 0.9, id=rng.choice(("shop", "bank", "77")), name="Data", segment=segments)


def _some(rng: Random, share: float, **members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if rng.random() < share}
