"""
Ids of one person from the privacy desk's text.

    jane@example.com        its MD5, SHA-1 and SHA-256: files and bids may have any of them
    everything else         as on the command line: `segments.model.identity.parse_id`

The desk alone hashes addresses; no API takes one. An address is forgotten with the request that
brought it. Messages name a line, never its text.
"""

import re
from typing import Final, NamedTuple

from segments.ledger.privacy.access_requests import SubjectId
from segments.model.identity import (
    Id,
    IdentifierKind,
    UnusableId,
    hashes_of_address,
    id_of_email_hash,
    parse_id,
    tail_of_email_hash,
)
from segments.model.refusal import Refusal

MAX_IDS: Final = 300
_ADDRESS: Final = re.compile(r"[^@\s]+@[^@\s]+")
_EMAIL_PREFIX: Final = "email:"
_OTHER_PREFIXES: Final = tuple(f"{kind}:" for kind in IdentifierKind if kind != "email")
_CHARS_TO_HASH: Final = {32: "MD5", 40: "SHA-1", 64: "SHA-256"}
_KIND_TO_WORDS: Final = {
    IdentifierKind.EMAIL: "e-mail hash",
    IdentifierKind.PHONE: "phone hash",
    IdentifierKind.DUID: "cookie",
    IdentifierKind.IFA: "device id",
    IdentifierKind.EID: "other id",
}


class TypedId(NamedTuple):
    """An id, and its kind in words that do not reveal it."""

    words: str
    subject: SubjectId


def kind_in_words(kind: IdentifierKind) -> str:
    """Return a kind of id in words."""
    return _KIND_TO_WORDS[kind]


def ids_of(text: str) -> list[TypedId]:
    """
    Return the ids of a person, each once, in the order of lines.

    Raises:
        Refusal: No line, too many ids, or a line that is no id; the message says which line.
    """
    id_to_typed: dict[Id, TypedId] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = _of_line(number, line.strip())
        except UnusableId as error:
            raise Refusal(f"line {number}: {error}") from None
        for each in found:
            id_to_typed.setdefault(each.subject.id, each)
    if not id_to_typed:
        raise Refusal("type an address, a hash, a cookie or a device id")
    if len(id_to_typed) > MAX_IDS:
        raise Refusal(f"{len(id_to_typed)} ids, limit {MAX_IDS}: all are of one person")
    return list(id_to_typed.values())


def _of_line(number: int, text: str) -> list[TypedId]:
    is_prefixed = text.lower().startswith(_EMAIL_PREFIX)
    email = text[len(_EMAIL_PREFIX) :].strip() if is_prefixed else text
    if "@" not in email or email.lower().startswith(_OTHER_PREFIXES):
        kind, id_ = parse_id(text)
        tail = tail_of_email_hash(email) if kind is IdentifierKind.EMAIL else None
        return [TypedId(f"line {number}: {kind_in_words(kind)}", SubjectId(kind, id_, tail))]
    if not _ADDRESS.fullmatch(email):
        raise UnusableId(f"{len(email)} characters with an @ that are no e-mail address")
    return [
        TypedId(
            f"line {number}: address, as {_CHARS_TO_HASH[len(digest)]}",
            SubjectId(IdentifierKind.EMAIL, id_of_email_hash(digest), tail_of_email_hash(digest)),
        )
        for digest in hashes_of_address(email)
    ]
