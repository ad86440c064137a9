"""
Bid request to the ids that we look up, by the rules of `rtb.id_rules`.

A uid belongs to the first rule that can make an id of it: one that is no
e-mail hash falls through to the next rule of its source. Whatever else stands
there is not an identifier, and no error.

Three laws are no one's to configure. `uidapi.com` is never read: its ids are
encrypted tokens, another one each time. A DUID is not read under COPPA. A
device id is not read when the device says that tracking is limited.
"""

import contextlib
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from rtb.id_rules import ENCRYPTED_SOURCE, IdRule
from rtb.openrtb.decode import Decoder, Read
from rtb.openrtb.request import Request
from rtb.openrtb.views import ABSENT, UidExt
from segments.model.identity import (
    Id,
    IdentifierKind,
    UnusableId,
    id_of_duid,
    id_of_eid,
    id_of_email_hash,
    id_of_ifa,
    id_of_phone_hash,
)

_ID_OF: Final[dict[IdentifierKind, Callable[[str, str], Id]]] = {
    IdentifierKind.EMAIL: lambda _source, uid: id_of_email_hash(uid),
    IdentifierKind.PHONE: lambda _source, uid: id_of_phone_hash(uid),
    IdentifierKind.DUID: lambda _source, uid: id_of_duid(uid),
    IdentifierKind.IFA: lambda _source, uid: id_of_ifa(uid),
    IdentifierKind.EID: id_of_eid,
}

_decode: Final = msgspec.json.Decoder().decode
_NOTHING_SAID: Final = b'{"id":"","user":{"ext":{}},"device":{}}'

_Found = tuple[int, Id, IdentifierKind]
"""The rank of the rule, so that sorting brings the most trusted first; the id; its kind."""


class _Ranked(NamedTuple):
    rank: int
    kind: IdentifierKind
    id_of: Callable[[str, str], Id]
    rule: IdRule


class _Path(NamedTuple):
    rank: int
    rule: IdRule
    read: Read
    rest: tuple[str, ...]


class Identify:
    """
    The rules, compiled.

    Args:
        rules: In the order of trust.
        decoder: Made with the paths of these rules.

    Raises:
        ValueError: A path leads to what is read as a signal or as eids.
    """

    def __init__(self, rules: Sequence[IdRule], decoder: Decoder) -> None:
        self._paths: list[_Path] = []
        self._source_to_rules: dict[str, list[_Ranked]] = {}
        self._rules_of_ext: list[_Ranked] = []
        for rank, rule in enumerate(rules):
            if rule.path is not None:
                read, rest = decoder.reader(rule.path)
                if read(decoder(_NOTHING_SAID)) is not ABSENT:
                    raise ValueError(f"{rule.path} is a signal or eids, not an identifier")
                self._paths.append(_Path(rank, rule, read, rest))
            elif rule.source is not None:
                ranked = self._source_to_rules.setdefault(rule.source.lower(), [])
                ranked.append(_Ranked(rank, rule.kind, _ID_OF[rule.kind], rule))
            else:
                self._rules_of_ext.append(_Ranked(rank, rule.kind, _ID_OF[rule.kind], rule))

    def __call__(self, request: Request) -> tuple[tuple[Id, ...], tuple[IdentifierKind, ...]]:
        """
        Find the identifiers of a bid request that the rules name.

        Returns:
            Their ids, each once, the most trusted first; and the kind of each.
        """
        unread = _unread(request)
        found: list[_Found] = []
        for rank, rule, read, rest in self._paths:
            raw = read(request)
            if raw is not ABSENT and rule.kind not in unread:
                for text in _texts(raw, rest):
                    with contextlib.suppress(UnusableId):
                        id_ = _ID_OF[rule.kind](rule.source or "", text)
                        found.append((rank, id_, rule.kind))
        for source, uid, ext in request.uids:
            self._read(source.lower(), uid, ext, unread, found)

        if len(found) == 1:  # as usual
            _, id_, kind = found[0]
            return (id_,), (kind,)
        found.sort()
        id_to_kind: dict[Id, IdentifierKind] = {}
        for _, id_, kind in found:
            id_to_kind.setdefault(id_, kind)
        return tuple(id_to_kind), tuple(id_to_kind.values())

    def _read(
        self,
        source: str,
        uid: str,
        ext: UidExt | None,
        unread: frozenset[IdentifierKind],
        found: list[_Found],
    ) -> None:
        if source == ENCRYPTED_SOURCE:
            return
        rules = self._source_to_rules.get(source, _NO_RULES)
        if ext is not None:
            rules = self._with_rules_of_ext(rules, ext)
        for rank, kind, id_of, _ in rules:
            # What may not be read as what it is, is not read as anything else.
            if kind in unread:
                break
            try:
                found.append((rank, id_of(source, uid), kind))
                break
            except UnusableId:
                continue

    def _with_rules_of_ext(self, rules: Sequence[_Ranked], ext: UidExt) -> Sequence[_Ranked]:
        matching = [
            ranked
            for ranked in self._rules_of_ext
            if (ranked.rule.provider or _NEVER) == ext.provider or ext.stype in ranked.rule.stype
        ]
        return sorted([*rules, *matching], key=_rank) if matching else rules


_NO_RULES: Final[Sequence[_Ranked]] = ()
_NEVER: Final = object()
_NOTHING: Final[frozenset[IdentifierKind]] = frozenset()
_rank: Final = itemgetter(0)


def _unread(request: Request) -> frozenset[IdentifierKind]:
    """Return the kinds of id that this request's own signals keep us from reading."""
    unread = _NOTHING
    if request.regs.coppa:
        unread |= {IdentifierKind.DUID}
    if request.device.lmt:
        unread |= {IdentifierKind.IFA}
    return unread


def _texts(raw: Raw, rest: tuple[str, ...]) -> list[str]:
    """Follow the rest of a path; it leads to a string, an array of them, or nothing of use."""
    try:
        value = _decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return []
    for name in rest:
        value = value.get(name) if isinstance(value, dict) else None
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]
