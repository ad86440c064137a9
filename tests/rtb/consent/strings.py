"""
Encoders of consent strings for the tests, written from the documents and for clarity.

They know nothing of `rtb.consent`: the layouts of the US sections are spelled out
a second time here, in the words of the documents.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

Entries = Sequence[tuple[int, int]]
"""Ranges of vendor ids, both ends included."""


def base64url(bits: str) -> str:
    """Write bits, filled up with zeros to whole characters."""
    bits += "0" * (-len(bits) % 6)
    return "".join(_ALPHABET[int(bits[i : i + 6], 2)] for i in range(0, len(bits), 6))


def number(value: int, width: int) -> str:
    """Write a number in so many bits."""
    return f"{value:0{width}b}"


def _entries(entries: Entries) -> str:
    written = (
        "0" + number(start, 16) if start == end else "1" + number(start, 16) + number(end, 16)
        for start, end in entries
    )
    return number(len(entries), 12) + "".join(written)


def vendors(ids: Iterable[int], *, as_range: bool = False, max_id: int | None = None) -> str:
    """Write a vendor section, as a bit each or as ranges."""
    chosen = sorted(set(ids))
    last = max(chosen, default=0) if max_id is None else max_id
    if not as_range:
        bits = "".join("01"[id_ in chosen] for id_ in range(1, last + 1))
        return number(last, 16) + "0" + bits
    entries: list[tuple[int, int]] = []
    for id_ in chosen:
        if entries and entries[-1][1] == id_ - 1:
            entries[-1] = (entries[-1][0], id_)
        else:
            entries.append((id_, id_))
    return number(last, 16) + "1" + _entries(entries)


TCF_23_SINCE_DS = 17_723_232_000
"""1 March 2026, as `Created` counts: from then on a string says who was disclosed."""


def disclosed(ids: Iterable[int], **form: Any) -> str:
    """Write a segment of disclosed vendors; `form` as of `vendors`."""
    return base64url(number(1, 3) + vendors(ids, **form))


def tc_bits(
    purposes: Iterable[int] = range(1, 12),
    consents: str = vendors([1, 148, 755]),
    interests: str = vendors([]),
    restrictions: Sequence[tuple[int, int, Entries]] = (),
    version: int = 2,
    created_ds: int = 17_000_000_000,
) -> str:
    """
    Write the core of a TC string.

    Args:
        restrictions: Purpose, type (0 not allowed, 1 require consent, 2 require
            legitimate interest), and the vendors.
        created_ds: Tenths of a second since 1970; in 2023, before TCF 2.3.
    """
    allowed = set(purposes)
    return "".join(
        [
            number(version, 6),
            number(created_ds, 36) * 2,  # Created, LastUpdated
            number(31, 12) + number(2, 12) + number(1, 6),  # CmpId, CmpVersion, ConsentScreen
            number(3, 6) + number(4, 6),  # ConsentLanguage
            number(90, 12) + number(5, 6) + "10",  # VendorListVersion, TcfPolicyVersion, flags
            number(0, 12),  # SpecialFeatureOptIns
            "".join("01"[purpose in allowed] for purpose in range(1, 25)),
            number(0, 24) + "0" + number(3, 6) + number(4, 6),  # LI, OneTreatment, PublisherCC
            consents,
            interests,
            number(len(restrictions), 12),
            *(number(p, 6) + number(type_, 2) + _entries(e) for p, type_, e in restrictions),
        ]
    )


def tc_string(*args: Any, **kwargs: Any) -> str:
    """Write a TC string of one segment, in whole bytes; see `tc_bits`."""
    bits = tc_bits(*args, **kwargs)
    return base64url(bits + "0" * (-len(bits) % 8))


def fibonacci(value: int) -> str:
    """Write a number as the GPP document describes it."""
    numbers = [1, 2]
    while numbers[-1] <= value:
        numbers.append(numbers[-1] + numbers[-2])
    bits = ""
    for f in reversed(numbers):
        if f <= value:
            value -= f
            bits = "1" + bits
        elif bits:
            bits = "0" + bits
    return bits + "1"


def gpp_header(ids: Sequence[int], *, as_ranges: bool = True) -> str:
    """Write the header of a GPP string with these sections."""
    runs: list[list[int]] = []
    for id_ in ids:
        if as_ranges and runs and runs[-1][1] == id_ - 1:
            runs[-1][1] = id_
        else:
            runs.append([id_, id_])
    bits, last = "", 0
    for first, end in runs:
        if first == end:
            bits += "0" + fibonacci(first - last)
        else:
            bits += "1" + fibonacci(first - last) + fibonacci(end - first)
        last = end
    return base64url(number(3, 6) + number(1, 6) + number(len(runs), 12) + bits)


def gpp_string(sections: Mapping[int, str]) -> str:
    """Write a GPP string of sections that are written already."""
    ids = sorted(sections)
    return "~".join([gpp_header(ids), *(sections[id_] for id_ in ids)])


# (sensitive data, children): how many fields each state has of them.
_STATES_OF_2023 = {9: (8, 1), 10: (7, 1), 12: (8, 3)}
_STATES_SINCE = {
    13: (8, 3), 14: (8, 3), 15: (11, 3), 16: (8, 1), 17: (9, 5), 19: (8, 1), 20: (8, 3),
    21: (10, 5), 22: (8, 1), 23: (8, 1),
}  # fmt: skip
_MSPA = ["MspaCoveredTransaction", "MspaOptOutOptionMode", "MspaServiceProviderMode"]


def _many(name: str, count: int) -> list[str]:
    return [f"{name}[{i}]" for i in range(1, count + 1)]


def us_fields(id_: int, version: int = 1) -> list[str]:
    """Return the names of the two-bit fields of a section, behind its version; lists from 1."""
    if id_ == 7:
        sensitive, child = (12, 2) if version == 1 else (16, 3)
        return [
            "SharingNotice", "SaleOptOutNotice", "SharingOptOutNotice",
            "TargetedAdvertisingOptOutNotice", "SensitiveDataProcessingOptOutNotice",
            "SensitiveDataLimitUseNotice", "SaleOptOut", "SharingOptOut",
            "TargetedAdvertisingOptOut",
            *_many("SensitiveDataProcessing", sensitive),
            *_many("KnownChildSensitiveDataConsents", child),
            "PersonalDataConsents", *_MSPA,
        ]  # fmt: skip
    if id_ == 8:
        return [
            "SaleOptOutNotice", "SharingOptOutNotice", "SensitiveDataLimitUseNotice",
            "SaleOptOut", "SharingOptOut",
            *_many("SensitiveDataProcessing", 9), *_many("KnownChildSensitiveDataConsents", 2),
            "PersonalDataConsents", *_MSPA,
        ]  # fmt: skip
    both = ["SaleOptOutNotice", "TargetedAdvertisingOptOutNotice"]
    opt_outs = ["SaleOptOut", "TargetedAdvertisingOptOut"]
    if id_ in _STATES_OF_2023:
        sensitive, child = _STATES_OF_2023[id_]
        return [
            "SharingNotice", *both, *opt_outs, *_many("SensitiveDataProcessing", sensitive),
            *_many("KnownChildSensitiveDataConsents", child), *_MSPA,
        ]  # fmt: skip
    if id_ in {11, 18}:  # Utah and Iowa have a notice of sensitive data
        notice, of_sensitive = (
            ("SharingNotice", "SensitiveDataProcessingOptOutNotice")
            if id_ == 11
            else ("ProcessingNotice", "SensitiveDataOptOutNotice")
        )
        return [
            notice, *both, of_sensitive, *opt_outs, *_many("SensitiveDataProcessing", 8),
            *_many("KnownChildSensitiveDataConsents", 1), *_MSPA,
        ]  # fmt: skip
    if id_ in _STATES_SINCE:
        sensitive, child = _STATES_SINCE[id_]
        return [
            "SharingNotice" if id_ == 14 else "ProcessingNotice", *both, *opt_outs,
            *_many("SensitiveDataProcessing", sensitive),
            *_many("KnownChildSensitiveDataConsents", child),
            "AdditionalDataProcessingConsent", *_MSPA,
        ]  # fmt: skip
    return [
        "MspaCoveredTransaction", "MspaMode", "ProcessingNotice", *both, *opt_outs,
        *_many("KnownChildSensitiveDataConsents", 0 if id_ == 24 else 1),
        "AdditionalDataProcessingConsent",
    ]  # fmt: skip


US_SECTIONS = [(7, 1), (7, 2), *((id_, 1) for id_ in range(8, 28))]
"""Every US section, with each of its versions."""

GPC_SECTIONS = frozenset({7, 8, 10, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24})
"""Those that have a GPC subsection."""

SENSITIVE_SECTIONS = frozenset({25, 26, 27})
"""Those that have a subsection of sensitive data."""


def quiet_value(field: str) -> int:
    """Return what a field says of a person who was told, and did not opt out."""
    if field.endswith("Notice"):
        return 1
    return 2 if field.endswith("OptOut") or field == "MspaCoveredTransaction" else 0


def us_section(id_: int, version: int = 1, subsection: str | None = None, **fields: int) -> str:
    """
    Write a US section that permits, but for the fields given.

    Args:
        subsection: What follows the core, written already.
        fields: By their names; `KnownChildSensitiveDataConsents_2` for the second of a list.
    """
    said = {_listed(name): value for name, value in fields.items()}
    names = us_fields(id_, version)
    assert said.keys() <= set(names), f"section {id_} has no {said.keys() - set(names)}"
    bits = number(version, 6)
    bits += "".join(number(said.get(name, quiet_value(name)), 2) for name in names)
    return base64url(bits) + ("" if subsection is None else f".{subsection}")


def _listed(name: str) -> str:
    head, _, index = name.partition("_")
    return f"{head}[{index}]" if index else name


def gpc(is_set: bool) -> str:
    """Write a GPC subsection."""
    return base64url("01" + "01"[is_set])
