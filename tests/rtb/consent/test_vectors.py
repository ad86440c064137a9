"""
What the IAB's own encoders write, read by us: `vectors/make.mjs` says how it came about.

The rule is written down here a second time, field by field and slowly, so that
a wrong offset and a wrong mask both show.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from iab_tcf import decode_v2

from rtb.consent.gpp import refusal_of_gpp
from rtb.consent.tcf import Vendor, refusal_of_tc_string
from rtb.outcome import Reason
from tests.rtb.consent.strings import GPC_SECTIONS, TCF_23_SINCE_DS, us_fields

_VECTORS = Path(__file__).parent / "vectors"
_VENDOR = Vendor.of(148, (1, 3, 4), TCF_23_SINCE_DS)


def _read(name: str) -> Iterator[list[Any]]:
    with gzip.open(_VECTORS / name, "rt") as lines:
        yield from map(json.loads, lines)


def _us_due(id_: int, said: dict[str, Any]) -> Reason:
    """Return what the rule of docs/field.md makes of a section whose fields are known by name."""
    child = said.get("KnownChildSensitiveDataConsents", [])
    child = child if isinstance(child, list) else [child]
    if said.get("MspaServiceProviderMode") == 1 or said.get("MspaMode") == 2:
        return Reason.GPP_SERVICE_PROVIDER
    if 1 in (
        said.get("SaleOptOut"), said.get("SharingOptOut"), said.get("TargetedAdvertisingOptOut")
    ):  # fmt: skip
        return Reason.GPP_OPT_OUT
    notices = (
        "SharingNotice", "ProcessingNotice", "SaleOptOutNotice", "SharingOptOutNotice",
        "TargetedAdvertisingOptOutNotice",
    )  # fmt: skip
    if any(said.get(notice) == 2 for notice in notices):
        return Reason.GPP_NO_NOTICE
    if id_ == 7:
        is_refused_child = child[0] == 1 or child[1] != 0 or child[2:] == [1]
    else:
        is_refused_child = any(child)
    if is_refused_child:
        return Reason.GPP_CHILD
    if said.get("PersonalDataConsents") or said.get("AdditionalDataProcessingConsent"):
        return Reason.GPP_PERSONAL_DATA
    for what in ("Sale", "Sharing", "TargetedAdvertising"):
        if said.get(f"{what}OptOutNotice") == 0 and said[f"{what}OptOut"] == 2:
            return Reason.GPP_NO_NOTICE
    if said.get("SharingNotice") == 0 and said.get("SharingOptOut") == 2:
        return Reason.GPP_NO_NOTICE
    return Reason.GPP_GPC if said.get("Gpc") else Reason.NONE


def _due(id_: int, said: dict[str, Any]) -> Reason:
    if id_ == 2:
        if not {1, 3, 4} <= set(said["purposes"]):
            return Reason.TCF_NO_PURPOSE
        if not said["has148"]:
            return Reason.TCF_NO_VENDOR
        return Reason.NONE if said["discloses148"] else Reason.TCF_NOT_DISCLOSED
    if id_ == 5:
        return Reason.GPP_SECTION_UNKNOWN
    if id_ == 6:
        return Reason.US_PRIVACY_OPT_OUT if said["OptOutSale"] == "Y" else Reason.NONE
    return _us_due(id_, said)


def test_sections_of_the_iabs_encoder_are_read_as_they_were_meant() -> None:
    seen: Counter[tuple[int, Reason]] = Counter()
    for gpp, sections in _read("gpp.jsonl.gz"):
        for number, said in sections.items():
            id_ = int(number)

            refusal = refusal_of_gpp(
                [gpp],
                [[id_]],
                _VENDOR,
                without_sid_refuses=True,
                every_section=False,
                personal_data_2_permits=False,
            )

            assert refusal is _due(id_, said), (gpp, id_, said)
            seen[id_, refusal] += 1

    assert sum(seen.values()) > 3_500
    for id_ in (2, 6, *range(7, 28)):
        assert seen[id_, Reason.NONE] >= 10
        assert sum(count for (i, _), count in seen.items() if i == id_) >= 100
    for id_ in range(7, 28):
        assert seen[id_, Reason.GPP_OPT_OUT] >= 5
        assert seen[id_, Reason.GPP_NO_NOTICE] >= 5
        assert seen[id_, Reason.GPP_SERVICE_PROVIDER] >= 5
        assert (seen[id_, Reason.GPP_GPC] >= 5) == (id_ in GPC_SECTIONS)


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_of_the_national_section_are_among_them(version: int) -> None:
    count = sum(
        said["Version"] == version
        for _, sections in _read("gpp.jsonl.gz")
        for number, said in sections.items()
        if number == "7"
    )

    assert count > 50


def test_layouts_of_the_tests_are_the_iabs() -> None:
    """
    The tests' own encoder knows the same fields in the same order.
    """
    for _, sections in _read("gpp.jsonl.gz"):
        for number, said in sections.items():
            if int(number) >= 7:
                names = []
                for name, value in said.items():
                    if name in {"Version", "MspaVersion", "Gpc"}:
                        continue
                    is_core = not (name == "SensitiveDataProcessing" and int(number) >= 25)
                    listed = isinstance(value, list) or name == "KnownChildSensitiveDataConsents"
                    count = len(value) if isinstance(value, list) else 1
                    if is_core:
                        names += [f"{name}[{i + 1}]" for i in range(count)] if listed else [name]

                assert names == us_fields(int(number), said.get("Version", 1))


def test_iab_tcf_reads_the_iabs_strings_as_we_do() -> None:
    for text, *_ in _read("tcf.jsonl.gz"):
        oracle = decode_v2(text)
        for who in (148, 149, 2, 77):
            for purpose in (1, 2, 7, 11, 12, 24):
                if not oracle.is_purpose_allowed(purpose):
                    due = {Reason.TCF_NO_PURPOSE}
                elif not oracle.is_vendor_allowed(who):
                    due = {Reason.TCF_NO_VENDOR}
                else:
                    due = {Reason.NONE, Reason.TCF_RESTRICTED, Reason.TCF_NOT_DISCLOSED}

                assert (
                    refusal_of_tc_string(text, Vendor.of(who, (purpose,), TCF_23_SINCE_DS)) in due
                )


@pytest.mark.parametrize(
    "purposes",
    [(1, 3, 4), (3,), (1, 2, 4, 9), (2, 7, 10, 11), (24,)],
    ids=lambda purposes: f"purposes {purposes}",
)
def test_tc_strings_of_the_iabs_encoder_say_what_its_decoder_reads(
    purposes: tuple[int, ...],
) -> None:
    seen: Counter[Reason] = Counter()
    for text, consented, probes, created_ds in _read("tcf.jsonl.gz"):
        for number, (is_consented, restrictions, is_disclosed) in probes.items():
            if not set(purposes) <= set(consented):
                due = Reason.TCF_NO_PURPOSE
            elif not is_consented:
                due = Reason.TCF_NO_VENDOR
            elif any(purpose in purposes and type_ != 1 for purpose, type_ in restrictions):
                due = Reason.TCF_RESTRICTED
            elif is_disclosed is False or (is_disclosed is None and created_ds >= TCF_23_SINCE_DS):
                due = Reason.TCF_NOT_DISCLOSED
            else:
                due = Reason.NONE

            refusal = refusal_of_tc_string(text, Vendor.of(int(number), purposes, TCF_23_SINCE_DS))

            assert refusal is due, (text, number, purposes)
            seen[refusal] += 1

    assert set(seen) >= {
        Reason.NONE,
        Reason.TCF_NO_PURPOSE,
        Reason.TCF_NO_VENDOR,
        Reason.TCF_NOT_DISCLOSED,
    }


def test_strings_of_tcf_23_and_of_before_are_among_them() -> None:
    kinds = Counter(
        (created_ds >= TCF_23_SINCE_DS, probes["148"][2])
        for _, _, probes, created_ds in _read("tcf.jsonl.gz")
    )

    assert set(kinds) == {(is_new, has) for is_new in (True, False) for has in (None, True, False)}
    assert min(kinds.values()) > 50


def test_long_strings_are_among_them() -> None:
    """
    Of hundreds of entries in one restriction, which have no bit field.
    """
    assert sum(len(text) > 1_000 for text, *_ in _read("tcf.jsonl.gz")) > 20
