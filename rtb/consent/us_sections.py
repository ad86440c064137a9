"""
The layouts of the US sections of a GPP string, as data.

From the IAB Tech Lab's documents (Global-Privacy-Platform, `Sections/US-National` and
`Sections/US-States`), checked against the IAB's own encoder: the vectors beside the tests. The
version takes 6 bits and each field 2, `*n` repeats a field n times, and padding is zero.

The documents of Maryland, Indiana, Kentucky and Rhode Island put a header before the core, which no
encoder writes, nor could: Fibonacci coding has no 0, the number of the core. These layouts are
those on the wire; a string with that header has another version, and is unreadable.

The national `KnownChildSensitiveDataConsents` has two ages, since version 2 three. Subsections
differ by state.
"""

from enum import Enum, auto
from typing import NamedTuple


class Subsection(Enum):
    """The subsection that may follow the core, after a dot."""

    NONE = auto()
    GPC = auto()  # SubsectionType/2 = 1, Gpc/1
    SENSITIVE = auto()  # SensitiveDataProcessing*8, which our rule ignores


class Section(NamedTuple):
    """A version of a section."""

    id: int
    version: int
    core: str
    """Field names after the version, in order."""
    subsection: Subsection


_NOTICES = "SaleOptOutNotice TargetedAdvertisingOptOutNotice"
_OPT_OUTS = "SaleOptOut TargetedAdvertisingOptOut"
_SENSITIVE = "SensitiveDataProcessing"
_CHILD = "KnownChildSensitiveDataConsents"
_ADDITIONAL = "AdditionalDataProcessingConsent"
_MSPA = "MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode"

_USNAT = (
    "SharingNotice SaleOptOutNotice SharingOptOutNotice TargetedAdvertisingOptOutNotice"
    " SensitiveDataProcessingOptOutNotice SensitiveDataLimitUseNotice"
    " SaleOptOut SharingOptOut TargetedAdvertisingOptOut"
)
_CALIFORNIA = (
    "SaleOptOutNotice SharingOptOutNotice SensitiveDataLimitUseNotice SaleOptOut SharingOptOut"
    f" {_SENSITIVE}*9 {_CHILD}*2 PersonalDataConsents {_MSPA}"
)
_UTAH = (
    f"SharingNotice {_NOTICES} SensitiveDataProcessingOptOutNotice {_OPT_OUTS}"
    f" {_SENSITIVE}*8 {_CHILD} {_MSPA}"
)
_IOWA = (
    f"ProcessingNotice {_NOTICES} SensitiveDataOptOutNotice {_OPT_OUTS}"
    f" {_SENSITIVE}*8 {_CHILD} {_MSPA}"
)
_MARYLAND = f"MspaCoveredTransaction MspaMode ProcessingNotice {_NOTICES} {_OPT_OUTS} {_ADDITIONAL}"
_INDIANA = (
    f"MspaCoveredTransaction MspaMode ProcessingNotice {_NOTICES} {_OPT_OUTS}"
    f" {_CHILD} {_ADDITIONAL}"
)


def _early(sensitive: int, child: int) -> str:
    """Return the core of the state layouts of 2023."""
    return f"SharingNotice {_NOTICES} {_OPT_OUTS} {_SENSITIVE}*{sensitive} {_CHILD}*{child} {_MSPA}"


def _later(sensitive: int, child: int, notice: str = "ProcessingNotice") -> str:
    """Return the core of the state layouts since 2024."""
    return (
        f"{notice} {_NOTICES} {_OPT_OUTS}"
        f" {_SENSITIVE}*{sensitive} {_CHILD}*{child} {_ADDITIONAL} {_MSPA}"
    )


SECTIONS = (
    Section(
        7, 1, f"{_USNAT} {_SENSITIVE}*12 {_CHILD}*2 PersonalDataConsents {_MSPA}", Subsection.GPC
    ),
    Section(
        7, 2, f"{_USNAT} {_SENSITIVE}*16 {_CHILD}*3 PersonalDataConsents {_MSPA}", Subsection.GPC
    ),
    Section(8, 1, _CALIFORNIA, Subsection.GPC),
    Section(9, 1, _early(8, 1), Subsection.NONE),  # Virginia
    Section(10, 1, _early(7, 1), Subsection.GPC),  # Colorado
    Section(11, 1, _UTAH, Subsection.NONE),
    Section(12, 1, _early(8, 3), Subsection.GPC),  # Connecticut
    Section(13, 1, _later(8, 3), Subsection.NONE),  # Florida
    Section(14, 1, _later(8, 3, "SharingNotice"), Subsection.GPC),  # Montana
    Section(15, 1, _later(11, 3), Subsection.GPC),  # Oregon
    Section(16, 1, _later(8, 1), Subsection.GPC),  # Texas
    Section(17, 1, _later(9, 5), Subsection.GPC),  # Delaware
    Section(18, 1, _IOWA, Subsection.GPC),
    Section(19, 1, _later(8, 1), Subsection.GPC),  # Nebraska
    Section(20, 1, _later(8, 3), Subsection.GPC),  # New Hampshire
    Section(21, 1, _later(10, 5), Subsection.GPC),  # New Jersey
    Section(22, 1, _later(8, 1), Subsection.GPC),  # Tennessee
    Section(23, 1, _later(8, 1), Subsection.GPC),  # Minnesota
    Section(24, 1, _MARYLAND, Subsection.GPC),
    Section(25, 1, _INDIANA, Subsection.SENSITIVE),
    Section(26, 1, _INDIANA, Subsection.SENSITIVE),  # Kentucky
    Section(27, 1, _INDIANA, Subsection.SENSITIVE),  # Rhode Island
)
