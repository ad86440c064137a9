"""
May we, by a US section of a GPP string, national or of a state?

A single rule, on the fields that a section has: Prebid's for enrichment ("enrichUfpd"), but
stricter in these points:

- `PersonalDataConsents`, and `AdditionalDataProcessingConsent` of the states, refuse at 1 and 2.
  "No" is 1 for the nation, Montana and Delaware, 2 for Florida and Oregon. A deployment may let 2
  of the national section permit: "Consent", as OneTrust writes it.
- A state's `KnownChildSensitiveDataConsents` refuse at 1 and 2: the documents disagree on values
  (in California's, 1 is consent) and ages.
- Undefined values are unreadable: 3 in a field that the rule reads, a bit after the last field,
  `MspaCoveredTransaction` at 0.

`ProcessingNotice` counts as `SharingNotice`, which it replaced, and `MspaMode` 2 as
`MspaServiceProviderMode` 1. We add no sensitive data, and ignore its fields.

Encoders of 2024 and 2025 wrote the national section's version 2 labelled as version 1
(IABTechLab/iabgpp-es, issues 75 and 90). A core of 10 or 11 characters, usual padding included, is
version 1. A core of 12 may be either: both must permit.

A section is a number of 2 bits a field: four operations test all fields.
"""

from typing import NamedTuple

from rtb.consent.base64url import unfold
from rtb.consent.us_sections import SECTIONS, Section, Subsection
from rtb.outcome import Reason

_VERSION_BITS, _FIELD_BITS = 6, 2
_LETTERS = "ABCDEFGHIJ"  # by version, the first character of a section

_CHILD = "KnownChildSensitiveDataConsents"

_RULE: tuple[tuple[str, tuple[int, ...], Reason], ...] = (
    ("MspaServiceProviderMode", (1,), Reason.GPP_SERVICE_PROVIDER),
    ("MspaMode", (2,), Reason.GPP_SERVICE_PROVIDER),
    ("SaleOptOut", (1,), Reason.GPP_OPT_OUT),
    ("SharingOptOut", (1,), Reason.GPP_OPT_OUT),
    ("TargetedAdvertisingOptOut", (1,), Reason.GPP_OPT_OUT),
    ("SharingNotice", (2,), Reason.GPP_NO_NOTICE),
    ("ProcessingNotice", (2,), Reason.GPP_NO_NOTICE),
    ("SaleOptOutNotice", (2,), Reason.GPP_NO_NOTICE),
    ("SharingOptOutNotice", (2,), Reason.GPP_NO_NOTICE),
    ("TargetedAdvertisingOptOutNotice", (2,), Reason.GPP_NO_NOTICE),
    (_CHILD, (1, 2), Reason.GPP_CHILD),
    ("PersonalDataConsents", (1, 2), Reason.GPP_PERSONAL_DATA),
    ("AdditionalDataProcessingConsent", (1, 2), Reason.GPP_PERSONAL_DATA),
)
"""A field, its refusing values, the reason; the first match counts."""

_NATIONAL = 7
_NATIONAL_CHILD_VALUES = ((1,), (1, 2), (1,))
"""Ages 13 to 16 may consent, under 13 may not, 16 and 17 (version 2) may."""

_PAIRS = (
    ("SaleOptOutNotice", "SaleOptOut"),
    ("SharingOptOutNotice", "SharingOptOut"),
    ("SharingNotice", "SharingOptOut"),
    ("TargetedAdvertisingOptOutNotice", "TargetedAdvertisingOptOut"),
)
"""Not opted out (2) without notice (0): the person was never asked."""

_COVERED = "MspaCoveredTransaction"
"""Must be 1 or 2; both permit."""

_FILLING_CHARS = 4  # encoders pad to 6, 8 or 24 bits
_NATIONAL_1_CHARS = (10, 11)
_EITHER_CHARS = 12

_GPC_TO_REFUSAL = {
    letter + filling: refusal
    for letter, refusal in (("Q", Reason.NONE), ("Y", Reason.GPP_GPC))  # 01 0 000, 01 1 000
    for filling in ("", "A", "AA", "AAA")
}
"""SubsectionType/2 = 1, Gpc/1, padding: all spellings."""

# Once: see rtb.consent.signal.
_NONE, _UNREADABLE, _NO_NOTICE = (Reason.NONE, Reason.GPP_UNREADABLE, Reason.GPP_NO_NOTICE)


class _Claim(NamedTuple):
    """A reason's fields; a mask is the lower of a field's bits."""

    reason: Reason
    at_1: int
    at_2: int


class _Rule(NamedTuple):
    """The rule, compiled for a layout."""

    bits: int
    least_chars: int
    read: int  # masks of all its fields
    covered: int  # masks of fields that are never 0
    at_1: int
    at_2: int
    claims: tuple[_Claim, ...]
    pairs: tuple[tuple[int, int], ...]  # masks of notice and opt-out
    subsection: Subsection


def _compile(section: Section, *, personal_data_2_permits: bool = False) -> _Rule:
    fields: list[str] = []
    for word in section.core.split():
        name, _, count = word.partition("*")
        fields += [name] * int(count or 1)
    masks = [1 << _FIELD_BITS * (len(fields) - 1 - i) for i in range(len(fields))]

    claims: dict[Reason, _Claim] = {}
    for name, all_values, reason in _RULE:
        of_name = [mask for field, mask in zip(fields, masks, strict=True) if field == name]
        for i, mask in enumerate(of_name):
            is_child = section.id == _NATIONAL and name == _CHILD
            values = _NATIONAL_CHILD_VALUES[i] if is_child else all_values
            if personal_data_2_permits and name == "PersonalDataConsents":
                values = (1,)
            _, at_1, at_2 = claims.get(reason, _Claim(reason, 0, 0))
            claims[reason] = _Claim(
                reason, at_1 | mask * (1 in values), at_2 | mask * (2 in values)
            )
    pairs = tuple(
        (masks[fields.index(notice)], masks[fields.index(opt_out)])
        for notice, opt_out in _PAIRS
        if notice in fields and opt_out in fields
    )
    covered = masks[fields.index(_COVERED)] if _COVERED in fields else 0
    at_1 = sum(claim.at_1 for claim in claims.values())
    at_2 = sum(claim.at_2 for claim in claims.values())
    bits = _VERSION_BITS + _FIELD_BITS * len(fields)
    return _Rule(
        bits=bits,
        least_chars=-(-bits // 6),
        read=at_1 | at_2 | covered,
        covered=covered,
        at_1=at_1,
        at_2=at_2,
        claims=tuple(claims.values()),
        pairs=pairs,
        subsection=section.subsection,
    )


_RULES: dict[int, dict[str, _Rule]] = {section.id: {} for section in SECTIONS}
for _section in SECTIONS:
    _RULES[_section.id][_LETTERS[_section.version]] = _compile(_section)

_LENIENT_RULES = {
    _LETTERS[section.version]: _compile(section, personal_data_2_permits=True)
    for section in SECTIONS
    if section.id == _NATIONAL
}

US_SECTION_IDS = frozenset(_RULES)


def refusal_of_us_section(id_: int, text: str, *, personal_data_2_permits: bool) -> Reason:
    """
    Return a section's refusal; `Reason.NONE` permits.

    Args:
        id_: One of `US_SECTION_IDS`.
        text: The section as in the GPP string.
        personal_data_2_permits: `PersonalDataConsents` 2 of the national section permits.
    """
    core, dot, rest = text.partition(".")
    is_national = id_ == _NATIONAL
    rules = _LENIENT_RULES if is_national and personal_data_2_permits else _RULES[id_]
    letter = core[:1]
    rule = rules.get(letter)
    if rule is None or not 0 <= len(core) - rule.least_chars <= _FILLING_CHARS:
        return _UNREADABLE
    if is_national and letter == "B" and len(core) not in _NATIONAL_1_CHARS:
        if len(core) != _EITHER_CHARS:
            return _UNREADABLE
        return _refusal_of_section(
            core, rules["C"], dot, rest, is_filled=True
        ) or _refusal_of_section(core, rule, dot, rest, is_filled=False)
    return _refusal_of_section(core, rule, dot, rest, is_filled=True)


def _refusal_of_section(core: str, rule: _Rule, dot: str, rest: str, *, is_filled: bool) -> Reason:
    """
    Read a section by a layout.

    Args:
        core: The text before the dot.
        rule: The rule for that layout.
        dot: Empty if there is no subsection.
        rest: The subsection.
        is_filled: Require zeros after the last field.
    """
    unfolded = unfold(core)
    if unfolded is None:
        return _UNREADABLE
    filling = 8 * len(unfolded) - rule.bits
    fields = int.from_bytes(unfolded, "big")
    if is_filled and fields & ((1 << filling) - 1):
        return _UNREADABLE
    low = fields >> filling
    high = low >> 1
    if low & high & rule.read or rule.covered & ~(low | high):
        return _UNREADABLE

    of_subsection = _NONE
    if dot:
        of_subsection = _refusal_of_subsection(rule.subsection, rest)
        if of_subsection is _UNREADABLE:
            return _UNREADABLE
    # No field is 3: a lower bit is a 1, an upper bit a 2.
    if low & rule.at_1 or high & rule.at_2:
        return next(claim.reason for claim in rule.claims if low & claim.at_1 or high & claim.at_2)
    said = low | high
    for notice, opt_out in rule.pairs:
        if high & opt_out and not said & notice:
            return _NO_NOTICE
    return of_subsection


def _refusal_of_subsection(subsection: Subsection, text: str) -> Reason:
    if subsection is Subsection.GPC:
        return _GPC_TO_REFUSAL.get(text, _UNREADABLE) if len(text) <= 4 else _UNREADABLE
    if subsection is Subsection.SENSITIVE and len(text) <= 8 and unfold(text):
        return _NONE
    return _UNREADABLE
