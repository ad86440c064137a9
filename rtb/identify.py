"""
Finds the ids of a bid request that we look up, by the rules of `rtb.id_rules`.

A uid belongs to the first rule of its source that can make an id of it. Other values are ignored.

All ids of a request are a single person's, and any may have the opt-out, so unusual spellings are
read too: marked hashes and device ids (`segments.model.identity`); other, opaque uids unchanged and
without surrounding blanks.

Four laws can't be configured. `uidapi.com`, whose tokens change each time, is never read; a DUID
not under COPPA; a device id not if the device limits tracking. A hash of nothing, or a placeholder,
identifies no person.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final, NamedTuple, final

import msgspec
from msgspec import Raw
from mypy_extensions import mypyc_attr

from rtb.id_rules import ENCRYPTED_SOURCE, IdRule
from rtb.openrtb.copies import led_to
from rtb.openrtb.decode import Decoder, Read
from rtb.openrtb.request import Request
from rtb.openrtb.views import ABSENT, UidExt
from segments.model.identity import (
    Id,
    IdentifierKind,
    NoPerson,
    UnusableId,
    id_of_duid,
    id_of_eid,
    id_of_email_hash,
    id_of_ifa,
    id_of_phone_hash,
    unmarked_digest,
    unmarked_uuid,
)

ID_OF: Final[dict[IdentifierKind, Callable[[str, str], Id]]] = {
    IdentifierKind.EMAIL: lambda _source, uid: id_of_email_hash(uid),
    IdentifierKind.PHONE: lambda _source, uid: id_of_phone_hash(uid),
    IdentifierKind.DUID: lambda _source, uid: id_of_duid(uid),
    IdentifierKind.IFA: lambda _source, uid: id_of_ifa(uid),
    IdentifierKind.EID: id_of_eid,
}

_ALIAS_OF: Final[dict[IdentifierKind, Callable[[str], str]]] = {
    IdentifierKind.EMAIL: unmarked_digest,
    IdentifierKind.PHONE: unmarked_digest,
    IdentifierKind.IFA: unmarked_uuid,
    IdentifierKind.DUID: str.strip,
    IdentifierKind.EID: str.strip,
}
"""Alternative spellings: for a text that is no id, and always for an opaque uid."""

_OPAQUE: Final = (IdentifierKind.DUID, IdentifierKind.EID)

_decode: Final = msgspec.json.Decoder().decode
_NOTHING_SAID: Final = b'{"id":"","user":{"ext":{}},"device":{"ext":{}},"regs":{}}'

_Found = tuple[int, Id, IdentifierKind]
"""The rule's rank, to sort the most trusted first; the id; its kind."""


@final
@mypyc_attr(acyclic=True)
class _Reading:
    """A rule, compiled to make ids of texts."""

    __slots__ = ("alias_of", "id_of", "is_opaque", "kind", "provider", "rank", "source", "stypes")

    def __init__(self, rank: int, rule: IdRule) -> None:
        self.rank: Final = rank
        self.kind: Final = rule.kind
        self.id_of: Final = ID_OF[rule.kind]
        self.alias_of: Final = _ALIAS_OF[rule.kind]
        self.is_opaque: Final = rule.kind in _OPAQUE
        self.source: Final = plain(rule.source or "")
        self.stypes: Final = frozenset(map(plain, rule.stype))
        self.provider: Final = plain(rule.provider or "")


class _Path(NamedTuple):
    reading: _Reading
    names: tuple[str, ...]
    read: Read
    rest: tuple[str, ...]  # names to follow within the value that `read` returns


class Identify:
    """
    The rules, compiled.

    Args:
        rules: In the order of trust.
        decoder: Made with the paths of these rules.

    Raises:
        ValueError: A path leads to a signal or to eids.
    """

    def __init__(self, rules: Sequence[IdRule], decoder: Decoder) -> None:
        self._paths: list[_Path] = []
        self._source_to_readings: dict[str, list[_Reading]] = {}
        self._readings_of_ext: list[_Reading] = []
        for rank, rule in enumerate(rules):
            reading = _Reading(rank, rule)
            if rule.path is not None:
                read, rest = decoder.reader(rule.path)
                if read(decoder(_NOTHING_SAID)) is not ABSENT:
                    raise ValueError(f"{rule.path} is a signal or eids, not an identifier")
                self._paths.append(_Path(reading, tuple(rule.path.split(".")), read, rest))
            elif rule.source is not None:
                self._source_to_readings.setdefault(reading.source, []).append(reading)
            else:
                self._readings_of_ext.append(reading)

    def __call__(self, request: Request) -> tuple[tuple[Id, ...], tuple[IdentifierKind, ...]]:
        """
        Find the identifiers of a bid request that the rules name.

        Returns:
            Their ids, each once, the most trusted first; and the kind of each.
        """
        unread = unread_kinds(request)
        found: list[_Found] = []
        copies = request.copies
        for reading, names, read, rest in self._paths:
            if copies is None:
                raw = read(request)
                if raw is ABSENT:
                    continue
                texts = texts_of(raw, rest)
            else:
                texts = [text for text in led_to(copies, names) if isinstance(text, str)]
            if reading.kind not in unread:
                for text in texts:
                    _add(found, reading, reading.source, text)
        for source, uid, ext in request.uids:
            self.read_uid(source, uid, ext, unread, found)

        if len(found) == 1:  # the usual case
            _, id_, kind = found[0]
            return (id_,), (kind,)
        found.sort()
        id_to_kind: dict[Id, IdentifierKind] = {}
        for _, id_, kind in found:
            id_to_kind.setdefault(id_, kind)
        return tuple(id_to_kind), tuple(id_to_kind.values())

    def read_uid(
        self,
        source: str,
        uid: str,
        ext: UidExt | None,
        unread: frozenset[IdentifierKind],
        found: list[_Found],
    ) -> None:
        """
        Add to `found` the ids that the rules make of one uid; usually one, or none.

        Args:
            source: Of `Request.uids`.
            uid: Likewise.
            ext: Likewise.
            unread: The kinds that may not be read, of `unread_kinds`.
            found: The rank of the rule, the id and its kind.
        """
        readings: Sequence[_Reading] | None = self._source_to_readings.get(source)
        if readings is None:
            source = plain(source)
            if source == ENCRYPTED_SOURCE:
                return
            readings = self._source_to_readings.get(source, _NO_READINGS)
        if ext is not None:
            readings = self._with_readings_of_ext(readings, ext)
        for reading in readings:
            # Uids of an unread kind get no other kind.
            if reading.kind in unread or _add(found, reading, source, uid):
                break

    def _with_readings_of_ext(
        self, readings: Sequence[_Reading], ext: UidExt
    ) -> Sequence[_Reading]:
        stype = plain(ext.stype) if isinstance(ext.stype, str) else None
        provider = plain(ext.provider) if isinstance(ext.provider, str) else None
        matching = [
            reading
            for reading in self._readings_of_ext
            if (provider and reading.provider == provider) or stype in reading.stypes
        ]
        return sorted([*readings, *matching], key=_rank) if matching else readings


_NO_READINGS: Final[Sequence[_Reading]] = ()
_NOTHING: Final[frozenset[IdentifierKind]] = frozenset()
_rank: Final = attrgetter("rank")


def unread_kinds(request: Request) -> frozenset[IdentifierKind]:
    """Return the kinds of id that this request's own signals forbid to read."""
    unread = _NOTHING
    coppa = request.regs.coppa
    if coppa and any(coppa):
        unread |= {IdentifierKind.DUID}
    if request.tracking.is_limited:
        unread |= {IdentifierKind.IFA}
    return unread


def plain(name: str) -> str:
    """Return the name of a source, provider or stype in the form that we compare."""
    return name.strip().lower()


def _add(found: list[_Found], reading: _Reading, source: str, text: str) -> bool:
    """Add the ids that a rule makes of a text; `False` if the text is not of its kind."""
    is_one = _add_id(found, reading, source, text)
    if is_one and not reading.is_opaque:
        return True
    alias = reading.alias_of(text)
    if alias == text:
        return is_one
    return _add_id(found, reading, source, alias) or is_one


def _add_id(found: list[_Found], reading: _Reading, source: str, text: str) -> bool:
    try:
        id_ = reading.id_of(source, text)
    except NoPerson:
        return True
    except UnusableId:
        return False
    found.append((reading.rank, id_, reading.kind))
    return True


def texts_of(raw: Raw, rest: tuple[str, ...]) -> list[str]:
    """Follow the rest of a path to a string or an array of strings; anything else is ignored."""
    try:
        value = _decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return []
    for name in rest:
        value = value.get(name) if isinstance(value, dict) else None
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]
