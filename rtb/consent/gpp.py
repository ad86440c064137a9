"""
May we, by the sections of the Global Privacy Platform that apply to a request?

`gpp_sid` says which apply, `gpp` what they say ("Global Privacy Platform String",
IAB Tech Lab):

    gpp     = header "~" section { "~" section }
    header  = base64url( Type/6 = 3, Version/6 = 1, NumItems/12, item { item } )
    item    = 0, Fibonacci(section id - last id)
            | 1, Fibonacci(first id - last id), Fibonacci(last id - first id)

Every section that applies must permit. One that is missing from the string, or
can't be read, does not; nor does one that we have no rule for, such as 5, the
Canadian TCF: a law applies, and we can't know what the person said. Only 0 and -1 apply to
nothing; so senders write "none". A string without `gpp_sid` applies to nothing either.

Both placements count: the sections of both lists, in each of the strings.
"""

from typing import Any

from rtb.consent.base64url import unfold
from rtb.consent.tcf import Vendor, refusal_of_tc_string
from rtb.consent.us import US_SECTION_IDS, refusal_of_us_section
from rtb.consent.us_privacy import refusal_of_us_privacy
from rtb.outcome import Reason

MAX_CHARS = 8192
"""Of a whole string; a TC string in it has a limit of its own."""
MAX_ID = 63
"""Largest section id: it takes 6 bits wherever it is written as a number."""
MAX_SECTIONS = 32
"""Of one string, and of one `gpp_sid`: there are 27."""

_TCF_EU = 2
_US_PRIVACY = 6
_KNOWN = US_SECTION_IDS | {_TCF_EU, _US_PRIVACY}
_NONE_APPLIES = (0, -1)

_LEAST_HEADER_CHARS, _MAX_HEADER_CHARS = 4, 64
_MAX_FIBONACCI_BITS = 9
"""Up to 88: section ids are small."""

_FIBONACCI = [1, 2]
while len(_FIBONACCI) < _MAX_FIBONACCI_BITS:
    _FIBONACCI.append(_FIBONACCI[-1] + _FIBONACCI[-2])

# Looked up once: see rtb.consent.signal.
_NONE, _ODD, _UNREADABLE, _MISSING, _UNKNOWN = (
    Reason.NONE,
    Reason.SIGNAL_UNREADABLE,
    Reason.GPP_UNREADABLE,
    Reason.GPP_MISSING,
    Reason.GPP_SECTION_UNKNOWN,
)


def refusal_of_gpp(gpp: Any, gpp_25: Any, gpp_sid: Any, gpp_sid_25: Any, vendor: Vendor) -> Reason:
    """
    Decide by `gpp` and `gpp_sid`.

    Args:
        gpp: As decoded from `regs`. An empty string says as little as none.
        gpp_25: As decoded from `regs.ext`.
        gpp_sid: As decoded from `regs`.
        gpp_sid_25: As decoded from `regs.ext`.
        vendor: Who we are, for the TCF section.
    """
    for text in (gpp, gpp_25):
        if text is not None and not isinstance(text, str):
            return _ODD
    ids: list[int | float] = []
    for said in (gpp_sid, gpp_sid_25):
        if said is None:
            continue
        if not isinstance(said, list) or len(said) > MAX_SECTIONS:
            return _ODD
        for id_ in said:
            if type(id_) is not int and type(id_) is not float:
                return _ODD
            if id_ not in _NONE_APPLIES and id_ not in ids:
                ids.append(id_)
    if not ids:
        return _NONE
    if not _KNOWN.issuperset(ids):
        return _UNKNOWN
    if not gpp and not gpp_25:
        return _MISSING
    refusal = _refusal_of_string(gpp, ids, vendor) if gpp else _NONE
    if not refusal and gpp_25 and gpp_25 != gpp:
        refusal = _refusal_of_string(gpp_25, ids, vendor)
    return refusal


def _refusal_of_string(text: str, ids: list[int | float], vendor: Vendor) -> Reason:
    if len(text) > MAX_CHARS:
        return _UNREADABLE
    header, *sections = text.split("~", MAX_SECTIONS)
    section_ids = _section_ids(header)
    if section_ids is None or len(section_ids) != len(sections):
        return _UNREADABLE
    for id_ in ids:
        if id_ not in section_ids:
            return _MISSING
        section = sections[section_ids.index(int(id_))]
        if not section:
            return _MISSING
        if id_ == _TCF_EU:
            refusal = refusal_of_tc_string(section, vendor)
        elif id_ == _US_PRIVACY:
            # `gpp_sid` says that it applies, so a malformed one can't count as not said.
            refusal = refusal_of_us_privacy(section, malformed_refuses=True)
        else:
            refusal = refusal_of_us_section(int(id_), section)
        if refusal:
            return refusal
    return _NONE


def _section_ids(header: str) -> list[int] | None:
    """Return the ids of the sections of a string, in their order; `None` if unreadable."""
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
    """Read a number of at least 1, and where it ends; 0 if there is none."""
    end = bits.find("11", at, at + _MAX_FIBONACCI_BITS + 1) + 1
    if not end:
        return 0, at
    number = sum(f for f, bit in zip(_FIBONACCI, bits[at:end], strict=False) if bit == "1")
    return number, end + 1
