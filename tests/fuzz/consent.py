"""
Consent strings: the compiled reader, its interpreted twin, and iab-tcf where it can read.

What permits must be backed by the oracle: a string that iab-tcf can't read, or reads as a no,
permits nothing. The other way round we may be stricter.
"""

import gzip
import json
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from iab_tcf import decode_v2

from rtb.consent import gpp, tcf, us_privacy
from rtb.consent.us import US_SECTION_IDS
from rtb.outcome import Reason
from tests.fuzz.forms import base64url_bits
from tests.fuzz.target import Check, Target
from tests.fuzz.twins import twins_of
from tests.rtb.consent.strings import (
    TCF_23_SINCE_DS,
    US_SECTIONS,
    disclosed,
    gpc,
    gpp_string,
    tc_string,
    us_section,
    vendors,
)

_VECTORS = Path(__file__).parents[1] / "rtb" / "consent" / "vectors"
_NUMBER, _PURPOSES = 148, (1, 3, 4)
_VENDOR = tcf.Vendor.of(_NUMBER, _PURPOSES, TCF_23_SINCE_DS)
_SIDS = (
    *((), (), (), (), (2,), (6,), (7,), (8,), (2, 6, 7), (7, 3, -1), (9, 10), (2, 7), (7, 8)),
    *((5,), (6, 7), tuple(range(7, 28))),
)
_EARLY = (Reason.TCF_NO_PURPOSE, Reason.TCF_NO_VENDOR)
_KNOWN = sorted(US_SECTION_IDS | {2, 6})
_MOST_ORACLE_CHARS = 2_000


def _vectors(name: str, each: int) -> list[bytes]:
    with gzip.open(_VECTORS / name, "rt") as lines:
        return [json.loads(line)[0].encode() for n, line in enumerate(lines) if n % each == 0]


def _tc_seeds() -> Sequence[bytes]:
    ours = (
        tc_string(),
        tc_string(consents=vendors([1, *range(140, 150), 300], as_range=True)) + ".IAAA",
        tc_string(interests=vendors(range(1, 300, 3), as_range=True)),
        tc_string(restrictions=[(3, 1, [(1, 9)]), (2, 0, [(148, 148)])]),
        tc_string(restrictions=[(3, 0, [(140, 150)]), (4, 2, [(148, 148)])]),
        tc_string(created_ds=TCF_23_SINCE_DS) + "." + disclosed([148]),
        tc_string(created_ds=TCF_23_SINCE_DS) + "." + disclosed([2, 148, 300], as_range=True),
        tc_string(purposes=[1, 2]),
    )  # fmt: skip
    return [*(text.encode() for text in ours), *_vectors("tcf.jsonl.gz", 16)]


def _gpp_seeds() -> Sequence[bytes]:
    ours = (
        gpp_string({7: us_section(7, 2, gpc(False))}),
        gpp_string({2: tc_string(), 6: "1YNN", 8: us_section(8)}),
        gpp_string({id_: us_section(id_, version) for id_, version in US_SECTIONS}),
        "DBABTA~1YNN",
    )
    return [*(text.encode() for text in ours), *_vectors("gpp.jsonl.gz", 64)]


def _text(data: bytes) -> str:
    """Return any text for bytes: UTF-8 where they are."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _by_both(ours: Any, twin: Any) -> Any:
    assert ours.value == twin.value, f"{ours.value!r}, and interpreted {twin.value!r}"
    return ours


@contextmanager
def _checking_tc() -> Iterator[Check]:
    [twin] = twins_of("rtb.consent.tcf")
    twin_vendor = twin.Vendor.of(_NUMBER, _PURPOSES, TCF_23_SINCE_DS)

    def check(data: bytes) -> Hashable:
        text = _text(data)
        refusal = tcf.refusal_of_tc_string(text, _VENDOR)
        _by_both(refusal, twin.refusal_of_tc_string(text, twin_vendor))
        return refusal.value

    yield check


def _agrees_with_iab_tcf(data: bytes) -> None:
    text = _text(data)
    refusal = tcf.refusal_of_tc_string(text, _VENDOR)
    if refusal is Reason.TCF_UNREADABLE or len(text) > _MOST_ORACLE_CHARS:
        return
    # Only the core: of segments that stand there twice the oracle takes the last. It wants as
    # many characters as bytes need; zeros behind the core say nothing.
    core = text.partition(".")[0]
    try:
        oracle = decode_v2(core + "A" * (-len(core) % 4))
    except Exception:  # noqa: BLE001 - it has no list of what it raises
        # We need not have read on.
        assert refusal in _EARLY, "the oracle can't read what we have read to its end"
        return
    is_allowed = all(oracle.is_purpose_allowed(purpose) for purpose in _PURPOSES)
    if refusal is Reason.TCF_NO_PURPOSE:
        assert not is_allowed, "the oracle reads consent to all purposes"
        return
    assert is_allowed, "the oracle reads no consent to a purpose"
    is_named = oracle.is_vendor_allowed(_NUMBER)
    assert is_named == (refusal is not Reason.TCF_NO_VENDOR), f"the oracle has it {is_named}"


@contextmanager
def _checking_gpp() -> Iterator[Check]:
    twin, twin_tcf = twins_of("rtb.consent.gpp", "rtb.consent.tcf")
    twin_vendor = twin_tcf.Vendor.of(_NUMBER, _PURPOSES, TCF_23_SINCE_DS)

    def read(module: ModuleType, who: Any, text: str, ids: Sequence[int], lenient: bool) -> Any:
        return module.refusal_of_gpp(
            [text], [list(ids)] if ids else [], who,
            without_sid_refuses=True, every_section=False, personal_data_2_permits=lenient,
        )  # fmt: skip

    def check(data: bytes) -> Hashable:
        text = _text(data)
        sids = _SIDS[len(data) % len(_SIDS)]
        lenient = len(data) % 3 == 0
        refusal = _by_both(
            read(gpp, _VENDOR, text, sids, lenient), read(twin, twin_vendor, text, sids, lenient)
        )
        alone = [read(gpp, _VENDOR, text, (id_,), lenient) for id_ in sids if id_ in _KNOWN]
        if alone and set(sids) <= {*_KNOWN, 3, -1}:
            assert (refusal is Reason.NONE) == (not any(alone)), "not each section permits"
        return refusal.value, len(sids)

    yield check


@contextmanager
def _checking_usp() -> Iterator[Check]:
    [twin] = twins_of("rtb.consent.us_privacy")

    def check(data: bytes) -> Hashable:
        text = _text(data)
        endings = []
        for malformed_refuses in (True, False):
            refusal = us_privacy.refusal_of_us_privacy(text, malformed_refuses)
            _by_both(refusal, twin.refusal_of_us_privacy(text, malformed_refuses))
            endings.append(refusal.value)
        is_well_formed = len(text) == 4 and text[0] == "1" and not set(text[1:]) - set("YNyn-")
        assert (endings[0] != "us_privacy_unreadable") == (is_well_formed or not text)
        if is_well_formed:
            assert (endings[0] == "us_privacy_opt_out") == (text[2] in "Yy")
        return tuple(endings)

    yield check


TARGETS = (
    Target(
        "tc", _tc_seeds, _checking_tc, (base64url_bits,), (b".", b"A", b"I", b"IA", b"_" * 8),
        ("rtb/consent/",), 20_000, slowest_ms=20.0, oracle=_agrees_with_iab_tcf, oracle_each=250,
    ),
    Target(
        "gpp", _gpp_seeds, _checking_gpp, (base64url_bits,), (b"~", b".", b"DB", b"A", b"~~"),
        ("rtb/consent/",), 30_000, slowest_ms=30.0,
    ),
    Target(
        "usp", lambda: [b"1YNN", b"1---", b"1YYY", b"1nyn", b""], _checking_usp, (),
        (b"1", b"Y", b"N", b"-", b"y", b"n"), ("rtb/consent/",), 64, slowest_ms=5.0,
    ),
)  # fmt: skip
