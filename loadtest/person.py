"""
The parts of a bid request that enrichment depends on: identifiers, and signals of consent.

docs/field.md has the places of identifiers ("Identifiers") and the refusing signals ("Consent");
both are generated in the placements of OpenRTB 2.5 and 2.6, among parts without effect: other
sources' eids, signals that refuse nothing, unneeded malformed consent strings.
"""

from random import Random
from typing import NamedTuple

from loadtest import inventory
from loadtest.population import PARTNERS, Population
from rtb.outcome import Reason
from segments.model.identity import IdentifierKind

_FOREIGN_SEGMENT = "77"
_FOREIGN_SEGTAX = 4
"""A segment of another taxonomy in a `Data` with a partner's id."""

_NO_DEVICE = "00000000-0000-0000-0000-000000000000"
_HASH_TO_STYPE = {"sha2": "hemsha256", "md5": "hemmd5", "sha1": "hemsha1"}
_GARBAGE = ("", "x", "CQ===", "BOEFEAyOEFEAyAHABDENAI4AAAB9vABAASA", "💥")


class Signals(NamedTuple):
    """A request's signals of consent; `refusal` is their consequence."""

    refusal: Reason = Reason.NONE
    gdpr: int | None = None
    us_privacy: str | None = None
    gpp: str | None = None
    gpp_sid: tuple[int, ...] | None = None
    consent: str | None = None
    coppa: int | None = None
    gpc: str | None = None
    lmt: int | None = None
    dnt: int | None = None

    def regs(self, *, is_26: bool) -> dict[str, object]:
        """Return the signals of `regs`, perhaps none."""
        placed = _said(
            gdpr=self.gdpr, us_privacy=self.us_privacy, gpp=self.gpp, gpp_sid=self.gpp_sid
        )
        coppa, gpc = _said(coppa=self.coppa), _said(gpc=self.gpc)
        regs = coppa | placed if is_26 else coppa
        ext = gpc if is_26 else gpc | placed
        if ext:
            regs |= {"ext": ext}
        return {"regs": regs} if regs else {}

    def device(self) -> dict[str, object]:
        """Return the flags of `device`."""
        return _said(lmt=self.lmt, dnt=self.dnt)


_QUIET = (
    Signals(),
    Signals(coppa=0, gpc="0", lmt=0, dnt=1),
    Signals(us_privacy="1YNN", lmt=0),
    Signals(us_privacy="1---"),
    Signals(gdpr=0),
    Signals(gpp_sid=(-1,)),
)
_REFUSING = (
    Signals(Reason.COPPA, coppa=1),
    Signals(Reason.LMT, lmt=1),
    Signals(Reason.GPC, gpc="1"),
    Signals(Reason.US_PRIVACY_OPT_OUT, us_privacy="1YYN"),
    Signals(Reason.US_PRIVACY_UNREADABLE, us_privacy="yes please"),
    Signals(Reason.TCF_MISSING, gdpr=1),
    Signals(Reason.GPP_MISSING, gpp_sid=(7,)),
    Signals(Reason.GPP_UNREADABLE, gpp="garbage"),
)
_REFUSING_SHARE = 0.14


def draw_signals(rng: Random) -> Signals:
    """Draw a request's signals, with at most one refusal, for an unambiguous reason."""
    if rng.random() < _REFUSING_SHARE:
        return rng.choice(_REFUSING)
    signals = rng.choice(_QUIET)
    if signals.gdpr == 0:
        return signals._replace(consent=rng.choice(_GARBAGE))
    if signals.gpp_sid == (-1,):
        return signals._replace(gpp=rng.choice(_GARBAGE))
    return signals


class Who(NamedTuple):
    """The persons of a request, as its fields."""

    user: dict[str, object]
    device: dict[str, object]
    is_stripped: bool  # has `user.ext.hashes`
    present: dict[str, frozenset[str]]  # partner id to segment ids in the request


class _Planted(NamedTuple):
    eids: list[object]
    hashes: list[str]  # `user.ext.hashes.email`
    ifa: str | None


def who_is(
    rng: Random,
    population: Population,
    numbers: tuple[int, ...],
    signals: Signals,
    *,
    is_26: bool,
) -> Who:
    """
    Make `user`, and the person's part of `device`.

    Args:
        rng: Decides everything that is not given.
        population: Knows the persons' identifiers.
        numbers: Persons to plant.
        signals: `consent` goes into `user`, `lmt` and `dnt` into `device`.
        is_26: Place `eids` and `consent` as OpenRTB 2.6 does.
    """
    planted = _plant(rng, population, numbers)
    device = signals.device()
    if planted.ifa is not None:
        device["ifa"] = planted.ifa
    elif rng.random() < 0.2:
        device["ifa"] = rng.choice((_NO_DEVICE, ""))
    eids = planted.eids + _eids_of_others(rng)
    rng.shuffle(eids)

    placed = _said(eids=eids or None, consent=signals.consent)
    ext: dict[str, object] = {} if is_26 else dict(placed)
    if planted.hashes:
        ext["hashes"] = {"email": planted.hashes if len(planted.hashes) > 1 else planted.hashes[0]}
    user: dict[str, object] = {}
    if rng.random() < 0.5:
        user |= {"id": f"u-{rng.randrange(10**9)}", "buyeruid": "never-looked-up"}
    user |= placed if is_26 else {}
    if ext or rng.random() < 0.3:
        user["ext"] = ext
    present: dict[str, frozenset[str]] = {}
    if rng.random() < 0.5:
        ours, present = _data_of_ours(rng)
        user["data"] = inventory.data_of_others(rng) + ours
    return Who(user, device, bool(planted.hashes), present)


def _plant(rng: Random, population: Population, numbers: tuple[int, ...]) -> _Planted:
    eids: list[object] = []
    hashes: list[str] = []
    ifa = None
    for number in numbers:
        match population.kind_of(number):
            case IdentifierKind.IFA:
                ifa = _any_case(rng, population.ifa(number))
            case IdentifierKind.DUID:
                eids.append(_eid("fpid.liveintent.com", population.duid(number), atype=1))
            case IdentifierKind.EID:
                eids.append(_eid_under_source(population, number))
            case _:
                digest = _any_case(rng, population.email_hash(number))
                if rng.random() < 0.2:
                    hashes.append(digest)
                else:
                    eids.append(_eid_of_hash(rng, digest, population.hash_of(number)))
    return _Planted(eids, hashes, ifa)


def _said(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _eid(source: str, uid: str, *, atype: int, **ext: str) -> dict[str, object]:
    return {"source": source, "uids": [{"id": uid, "atype": atype} | ({"ext": ext} if ext else {})]}


def _eid_of_hash(rng: Random, digest: str, hash_: str) -> dict[str, object]:
    if rng.random() < 0.5:
        return _eid("liveintent.com", digest, atype=3)
    return _eid("some-ssp.example", digest, atype=3, stype=_HASH_TO_STYPE[hash_])


def _eid_under_source(population: Population, number: int) -> dict[str, object]:
    source, uid = population.eid(number)
    if source == "liveintent.com":
        return _eid(source, uid, atype=1)
    return _eid(source, uid, atype=1, provider="liveintent.com")


def _eids_of_others(rng: Random) -> list[object]:
    """Return foreign identifiers, some similar to ours, that must not be looked up."""
    token = f"{rng.getrandbits(128):032x}"
    choices: tuple[object, ...] = (
        _eid("uidapi.com", "A4AAA" + token * 2, atype=3),
        _eid("id5-sync.com", f"ID5*{token}", atype=1, linkType="2"),
        _eid("criteo.com", token, atype=1, stype="ppuid"),
        {"source": "nobody.example", "uids": []},
        {"source": "pairid.example", "matcher": "x.example", "mm": 3, "uids": [{"id": token}]},
    )
    return rng.sample(choices, rng.choice((0, 0, 1, 2, 3)))


def _data_of_ours(rng: Random) -> tuple[list[object], dict[str, frozenset[str]]]:
    """
    Return, sometimes, a `Data` with a partner's id as part of the request.

    A `Data` of another taxonomy than the partner's holds nothing of ours.
    """
    if rng.random() < 0.8:
        return [], {}
    partner = rng.choice(PARTNERS)
    held = str(rng.randrange(100, 110))
    segments = [{"id": _FOREIGN_SEGMENT, "value": "kept"}, {"id": held}]
    data: dict[str, object] = {
        "id": partner.public_id,
        "name": "as it came",
        "segment": segments,
    }
    segtax = partner.segtax if rng.random() < 0.7 else _FOREIGN_SEGTAX
    if segtax is not None:
        data["ext"] = {"segtax": segtax}
    if segtax != partner.segtax:
        return [data], {}
    return [data], {partner.public_id: frozenset({_FOREIGN_SEGMENT, held})}


def _any_case(rng: Random, digits: str) -> str:
    return digits.upper() if rng.random() < 0.25 else digits
