"""
The identifiers of a request: the rule that read each, or the reason why none did.

`Identify` decides, for one path or uid at a time; its ids are the findings.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from rtb.id_rules import ENCRYPTED_SOURCE, IdRule
from rtb.identify import ID_OF, Identify, plain, texts_of, unread_kinds
from rtb.openrtb.copies import led_to
from rtb.openrtb.decode import Decoder
from rtb.openrtb.request import Request
from rtb.openrtb.uids import SourcedUid, uids_of
from rtb.openrtb.views import ABSENT, Eid, Odd, User, UserExt
from segments.model.identity import Id, IdentifierKind, UnusableId

_FORBIDDEN: Final = "the request's own signals forbid reading it"
_ENCRYPTED: Final = f"{ENCRYPTED_SOURCE}: encrypted, different each time"
_NO_RULE: Final = "no rule reads this source"
_NO_FORM: Final = "not of the form of its kind"

_decode_user: Final = msgspec.json.Decoder(User | Odd).decode

_SAMPLES: Final = ("0123456789abcdef" * 4, "01234567-89ab-cdef-0123-456789abcdef")
"""Identifiers of no person; any rule makes an id of one of them."""

_NO_KINDS: Final[frozenset[IdentifierKind]] = frozenset()


class Read(NamedTuple):
    """An identifier of the request: the ids made of it, or the reason for none."""

    where: str
    ids: tuple[Id, ...]
    kind: IdentifierKind | None = None
    rank: int | None = None  # of the rule, from 0
    why_not: str = ""


class Reader:
    """
    Reads as the pipeline's `Identify` does, one identifier at a time.

    Args:
        rules: The pipeline's.
        identify: Made of these rules.
        decoder: The pipeline's.
    """

    def __init__(self, rules: Sequence[IdRule], identify: Identify, decoder: Decoder) -> None:
        self._rules = rules
        self._identify = identify
        self._decoder = decoder
        self._rank_to_alone = {
            rank: Identify((rule,), decoder)
            for rank, rule in enumerate(rules)
            if rule.path is not None
        }

    def read(self, request: Request) -> list[Read]:
        """Return the identifiers of a request at every place that a rule could read."""
        places = places_of(request)
        return [
            *self._at_paths(request),
            *(
                read
                for place, uid in zip(places, request.uids, strict=True)
                for read in self._of_uid(request, place, uid)
            ),
        ]

    def rule_in_words(self, rank: int) -> str:
        """Return a rule in words: its number, and its source or path."""
        rule = self._rules[rank]
        reads = rule.path or rule.source or rule.provider or ", ".join(rule.stype)
        return f"rule {rank + 1}: {reads}"

    def _at_paths(self, request: Request) -> Iterator[Read]:
        for rank, alone in self._rank_to_alone.items():
            rule = self._rules[rank]
            path = rule.path or ""
            ids, _ = alone(request)
            if ids:
                yield Read(path, ids, rule.kind, rank)
                continue
            texts = self._texts(request, path)
            if texts is None:
                continue
            if rule.kind in unread_kinds(request):
                yield Read(path, (), why_not=_FORBIDDEN)
            else:
                yield Read(path, (), why_not=_complaint(rule.kind, rule.source or "", texts))

    def _texts(self, request: Request, path: str) -> list[str] | None:
        """Return the texts at a path; `None` if nothing is there."""
        if request.copies is None:
            read, rest = self._decoder.reader(path)
            raw = read(request)
            return None if raw is ABSENT else texts_of(raw, rest)
        there = led_to(request.copies, path.split("."))
        return [text for text in there if isinstance(text, str)] if there else None

    def _of_uid(self, request: Request, place: str, uid: SourcedUid) -> Iterator[Read]:
        unread = unread_kinds(request)
        found = self._found(uid, unread)
        for rank, id_, kind in found:
            yield Read(place, (id_,), kind, rank)
        if found:
            return
        source, text, ext = uid
        if self._found(uid, _NO_KINDS):
            yield Read(place, (), why_not=_FORBIDDEN)
        elif plain(source) == ENCRYPTED_SOURCE:
            yield Read(place, (), why_not=_ENCRYPTED)
        else:
            # A source is read by a rule if that makes an id of a sample.
            taken = [
                kind
                for sample in _SAMPLES
                for _, _, kind in self._found((source, sample, ext), _NO_KINDS)
            ]
            why = _complaint(taken[0], source, [text]) if taken else _NO_RULE
            yield Read(place, (), why_not=why)

    def _found(
        self, uid: SourcedUid, unread: frozenset[IdentifierKind]
    ) -> list[tuple[int, Id, IdentifierKind]]:
        source, text, ext = uid
        found: list[tuple[int, Id, IdentifierKind]] = []
        self._identify.read_uid(source, text, ext, unread, found)
        return found


def places_of(request: Request) -> list[str]:
    """
    Return the place of each uid of a request, as a path with indexes.

    `uids_of` reads one uid at a time. If the result differs from the request's uids, as with
    duplicate members, a place is the uid's number.
    """
    placed = list(_placed(request))
    if [uid for _, uid in placed] == request.uids:
        return [place for place, _ in placed]
    return [f"uid {number}" for number, _ in enumerate(request.uids, 1)]


def _placed(request: Request) -> Iterator[tuple[str, SourcedUid]]:
    try:
        user = _decode_user(request.user_raw)
    except (msgspec.DecodeError, RecursionError):
        return
    if not isinstance(user, User):
        return
    ext = user.ext if isinstance(user.ext, UserExt) else UserExt()
    for place, eids in (("user.eids", user.eids), ("user.ext.eids", ext.eids)):
        for i, eid in enumerate(_listed(eids)):
            for j, uid in enumerate(_listed(eid.uids) if isinstance(eid, Eid) else ()):
                alone = User(eids=[Eid(eid.source, [uid])])
                for read in uids_of(alone, UserExt()):
                    yield f"{place}[{i}].uids[{j}]", read


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _complaint(kind: IdentifierKind, source: str, texts: Sequence[str]) -> str:
    """Return why no id is made of texts: lengths and reasons, never the texts."""
    for text in texts:
        try:
            ID_OF[kind](source, text)
        except UnusableId as unusable:
            return str(unusable)
    return _NO_FORM
