"""
May we, by the Global Privacy Platform's sections that apply?

`gpp_sid` names the sections that apply, `gpp` holds their content ("Global Privacy Platform
String", IAB Tech Lab):

    gpp     = header "~" section { "~" section }
    header  = base64url( Type/6 = 3, Version/6 = 1, NumItems/12, item { item } )
    item    = 0, Fibonacci(section id - last id)
            | 1, Fibonacci(first id - last id), Fibonacci(last id - first id)

Every section that applies must permit. Missing or unreadable sections, and those without a rule
here, such as 5, the Canadian TCF, do not: a law applies to an unknown choice. 3 and 4 are no laws:
header and signal integrity. Senders write 0 or -1 for "no section applies".

Most senders leave `gpp_sid` out or empty, which excludes nothing: then each law in the string must
permit, or, if configured, no section applies.

Both placements and all duplicate members count: the sections of all lists, in each string.
"""

from collections.abc import Sequence
from typing import Any

from rtb.consent.base64url import unfold
from rtb.consent.tcf import Vendor, refusal_of_tc_string
from rtb.consent.us import US_SECTION_IDS, refusal_of_us_section
from rtb.consent.us_privacy import refusal_of_us_privacy
from rtb.outcome import Reason

MAX_CHARS = 24_576
"""Of a whole string; a TC string inside has its own limit."""
MAX_ID = 63
"""Largest section id: a numeric section id takes 6 bits."""
MAX_SECTIONS = 32
"""Of a string and a `gpp_sid`; 27 exist."""

_TCF_EU = 2
_US_PRIVACY = 6
_KNOWN = US_SECTION_IDS | {_TCF_EU, _US_PRIVACY}
NO_LAWS = (0, -1, 3, 4)

_LEAST_HEADER_CHARS, _MAX_HEADER_CHARS = 4, 64
_MAX_FIBONACCI_BITS = 9
"""Enough for 88: section ids are small."""

_FIBONACCI = [1, 2]
while len(_FIBONACCI) < _MAX_FIBONACCI_BITS:
    _FIBONACCI.append(_FIBONACCI[-1] + _FIBONACCI[-2])

# Once: see rtb.consent.signal.
_NONE, _ODD, _UNREADABLE, _MISSING, _UNKNOWN = (
    Reason.NONE,
    Reason.SIGNAL_UNREADABLE,
    Reason.GPP_UNREADABLE,
    Reason.GPP_MISSING,
    Reason.GPP_SECTION_UNKNOWN,
)


def refusal_of_gpp(
    gpps: Sequence[Any],
    gpp_sids: Sequence[Any],
    vendor: Vendor,
    *,
    without_sid_refuses: bool,
    every_section: bool,
    personal_data_2_permits: bool,
) -> Reason:
    """
    Decide by `gpp` and `gpp_sid`.

    Args:
        gpps: All values, as decoded; an empty string counts as absent.
        gpp_sids: Likewise.
        vendor: Our entry on the Global Vendor List, for the TCF section.
        without_sid_refuses: If `gpp_sid` names none, every section must permit; otherwise none
            applies.
        every_section: Every section must permit, named or not: lists may be incomplete.
        personal_data_2_permits: For the national section: see `rtb.consent.us`.
    """
    for text in gpps:
        if not isinstance(text, str):
            return _ODD
    ids: list[int | float] = []
    is_said = False
    for said in gpp_sids:
        if not isinstance(said, list) or len(said) > MAX_SECTIONS:
            return _ODD
        for id_ in said:
            if type(id_) is not int and type(id_) is not float:
                return _ODD
            is_said = True
            if id_ not in NO_LAWS and id_ not in ids:
                ids.append(id_)
    if not ids and not every_section and (is_said or not without_sid_refuses):
        return _NONE
    if not _KNOWN.issuperset(ids):
        return _UNKNOWN
    is_missing = bool(ids)
    for n, text in enumerate(gpps):
        if text and text not in gpps[:n]:
            is_missing = False
            refusal = _refusal_of_string(text, ids, vendor, every_section, personal_data_2_permits)
            if refusal:
                return refusal
    return _MISSING if is_missing else _NONE


def _refusal_of_string(
    text: str,
    ids: Sequence[int | float],
    vendor: Vendor,
    every_section: bool,
    personal_data_2_permits: bool,
) -> Reason:
    """Read the named sections, or all if every section counts or none is named."""
    if len(text) > MAX_CHARS:
        return _UNREADABLE
    header, *sections = text.split("~", MAX_SECTIONS)
    section_ids = ids_in_header(header)
    if section_ids is None or len(section_ids) != len(sections):
        return _UNREADABLE
    if every_section or not ids:
        others = (id_ for id_ in section_ids if id_ not in NO_LAWS and id_ not in ids)
        ids = [*ids, *others]
        if not _KNOWN.issuperset(ids):
            return _UNKNOWN
    for id_ in ids:
        if id_ not in section_ids:
            return _MISSING
        section = sections[section_ids.index(int(id_))]
        if not section:
            return _MISSING
        if id_ == _TCF_EU:
            refusal = refusal_of_tc_string(section, vendor)
        elif id_ == _US_PRIVACY:
            # The law applies: malformed is not absent.
            refusal = refusal_of_us_privacy(section, malformed_refuses=True)
        else:
            refusal = refusal_of_us_section(
                int(id_), section, personal_data_2_permits=personal_data_2_permits
            )
        if refusal:
            return refusal
    return _NONE


def ids_in_header(header: str) -> list[int] | None:
    """Return a string's section ids, in order; `None` if unreadable."""
    if not _LEAST_HEADER_CHARS <= len(header) <= _MAX_HEADER_CHARS:
        return None
    unfolded = unfold(header)
    if unfolded is None or not header.startswith("DB"):  # Type 3, Version 1
        return None
    bits = bin(int.from_bytes(unfolded, "big") | 1 << 8 * len(unfolded))[3:]
    count = int(bits[12:24], 2)
    if count > MAX_SECTIONS:
        return None
    ids: list[int] = []
    last, at = 0, 24
    for _ in range(count):
        is_range = bits[at : at + 1] == "1"
        first, at = _fibonacci(bits, at + 1)
        if not first:
            return None
        first += last
        last = first
        if is_range:
            length, at = _fibonacci(bits, at)
            if not length:
                return None
            last += length
        if last > MAX_ID:
            return None
        ids += range(first, last + 1)
    return None if "1" in bits[at:] else ids


def _fibonacci(bits: str, at: int) -> tuple[int, int]:
    """Read a positive number and its end; 0: none."""
    end = bits.find("11", at, at + _MAX_FIBONACCI_BITS + 1) + 1
    if not end:
        return 0, at
    number = sum(f for f, bit in zip(_FIBONACCI, bits[at:end], strict=False) if bit == "1")
    return number, end + 1
