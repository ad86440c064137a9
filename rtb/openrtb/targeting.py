"""
The questions of a stock Prebid Server (Java) with its module `optable-targeting`, and the answers.

The module sends a GET, with `&` before its part of the query; so without a `?` in the endpoint, the
query is in the path:

    /v2/targeting?t=acme&o=pub-1&id=e%3A...&id=c%3A...&gdpr_consent=...&gdpr=1&timeout=20ms&osdk=...
    /v2/targeting&t=acme&o=pub-1&id=...

    t               the recipient           o    the publisher, as `publisher.id` of a bid request
    id              PREFIX:ID, each prefix once, for the first uid of an eid
    gdpr_consent    the TC string, if the server found it valid; not percent-encoded
    gdpr            1 if that is valid and GDPR applies; otherwise 0, so 0 says nothing
    gpp, gpp_sid    without a valid TC string; the sections as `7,8` or, in releases that
                    print Java's Optional, as `Optional[7]`; never more than two of them
    timeout         as `20ms`

Sources: extra/modules/optable-targeting of github.com/prebid/prebid-server-java, its QueryBuilder,
IdsMapper, OptableAttributesResolver, APIClientImpl and BidRequestEnricher; docs/prebid-server.md
has the releases. Unknown keys are ignored. Signals added to the URL count, too (`coppa`,
`us_privacy`, `gpc`, `lmt`, `dnt`).

No question is malformed: only a 200 with a body is no failure to the module, and circuit breakers
may count failures. An unreadable value refuses, like a privacy signal of the wrong type. An empty
value, as of an unfilled macro, says nothing.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from rtb.openrtb.additions import Additions
from rtb.openrtb.copies import MAX_UIDS
from rtb.openrtb.decode import Decoder
from rtb.openrtb.request import Request
from rtb.openrtb.signals import Law, Said, Tracking
from rtb.openrtb.splice import appended
from rtb.openrtb.uids import SourcedUid
from rtb.openrtb.views import BidRequest, Device, DeviceExt, User, UserExt

PATH: Final = b"/v2/targeting"

NAMED_EMAIL: Final = "optable e"
NAMED_PHONE: Final = "optable p"
NAMED_IFA: Final = "optable a, g, r, s, f"
"""Sources of uids whose prefix defines their kind, for `rtb.id_rules`."""

_PREFIX_TO_NAMED: Final = {
    "e": NAMED_EMAIL,
    "p": NAMED_PHONE,
    **dict.fromkeys("agrsf", NAMED_IFA),
}
_PREFIX_TO_SOURCE: Final = {"id5": "id5-sync.com", "utiq": "utiq.com", "n": "netid.de"}
"""The module's mapping of eids."""

EID_PREFIX: Final = re.compile(r"c|c1?[0-9]|id5|utiq|n")
"""Prefixes of eids: an account's (`ppid-mapping`), and the module's."""

_GPP_SID: Final = re.compile(r"Optional\[(-?\d{1,3})\]|(-?\d{1,3}(?:,-?\d{1,3})*)", re.ASCII)
_TIMEOUT: Final = re.compile(r"(\d{1,6})(?:ms)?", re.ASCII)
_FLAGS: Final = {"0": 0, "1": 1}
_KEYS: Final = frozenset(
    b"id o timeout gdpr gdpr_consent gpp gpp_sid coppa us_privacy gpc lmt dnt".split()
)
_NO_TEXTS: Final[list[str]] = []

_decode_head: Final = msgspec.json.Decoder(BidRequest).decode
_USER: Final = User()
_USER_EXT: Final = UserExt()
_DEVICE: Final = Device()
_DEVICE_EXT: Final = DeviceExt()


def is_asked(path: bytes) -> bool:
    """Tell whether a path, perhaps with the query, is of this endpoint."""
    return path == PATH or path.startswith(PATH + b"&")


def query_in(url: bytes) -> bytes:
    """Return the rest after the path."""
    return url[url.find(PATH) + len(PATH) :]


def recipient_in(query: bytes) -> str | None:
    """
    Return the recipient that asks; `None` if not named.

    Raises:
        UnicodeDecodeError: Not UTF-8.
        LookupError: Two recipients.
    """
    names = {value.decode() for key, value in _pairs(query) if key == b"t" and value}
    if len(names) > 1:
        raise LookupError
    return names.pop() if names else None


class Targeting:
    """
    Reads the questions.

    Args:
        prefix_to_source: An account's mapping of eids, in addition to the module's.
    """

    def __init__(self, prefix_to_source: Mapping[str, str]) -> None:
        self._prefix_to_source = {**_PREFIX_TO_SOURCE, **prefix_to_source, **_PREFIX_TO_NAMED}

    def __call__(self, query: bytes, _decoder: Decoder) -> Request:
        """Read a question as if it were a bid request."""
        key_to_texts: dict[bytes, list[str]] = {}
        is_odd = False
        for key, value in _pairs(query):
            if value and key in _KEYS:
                try:
                    key_to_texts.setdefault(key, []).append(value.decode())
                except UnicodeDecodeError:
                    is_odd = True
        texts_of = key_to_texts.get
        uids = self._uids(texts_of(b"id", _NO_TEXTS))
        is_odd = is_odd or len(uids) > MAX_UIDS
        return Request(
            b"",
            _decode_head,
            _tmax_ms(texts_of(b"timeout", _NO_TEXTS)),
            uids[:MAX_UIDS],
            _USER,
            _USER_EXT,
            _DEVICE,
            _DEVICE_EXT,
            tuple(texts_of(b"gdpr_consent", _NO_TEXTS)),
            Law(
                coppa=_flags(texts_of(b"coppa", _NO_TEXTS)),
                gdpr=_flags(text for text in texts_of(b"gdpr", _NO_TEXTS) if text != "0"),
                us_privacy=tuple(texts_of(b"us_privacy", _NO_TEXTS)),
                gpp=tuple(texts_of(b"gpp", _NO_TEXTS)),
                gpp_sid=_section_lists(texts_of(b"gpp_sid", _NO_TEXTS)),
                gpc=tuple(texts_of(b"gpc", _NO_TEXTS)),
            ),
            Tracking(
                lmt=_flags(texts_of(b"lmt", _NO_TEXTS)), dnt=_flags(texts_of(b"dnt", _NO_TEXTS))
            ),
            is_odd=is_odd,
            copies=tuple(_on_inventory_of(publisher) for publisher in texts_of(b"o", _NO_TEXTS)),
        )

    def _uids(self, texts: Iterable[str]) -> list[SourcedUid]:
        uids: list[SourcedUid] = []
        for text in texts:
            prefix, _, uid = text.partition(":")
            source = self._prefix_to_source.get(prefix)
            if source is not None:
                uids.append((source, uid, None))
        return uids


def targeting_answer(additions: Additions | None) -> bytes:
    """
    Return the answer, which is never empty.

    `audience` stays empty: the module would write its keys into every bid, for the publisher's
    page. The module merges the arrays `data` and `eids`.
    """
    if additions is None:
        return _NOTHING
    data = appended(b"", [addition.data for addition in additions.each])
    return b"".join((_ANSWER_HEAD, data, _ANSWER_TAIL))


_ANSWER_HEAD: Final = b'{"audience":[],"ortb2":{"user":{"data":'
_ANSWER_TAIL: Final = b',"eids":[]}}}'
_NOTHING: Final = _ANSWER_HEAD + b"[]" + _ANSWER_TAIL


def _pairs(query: bytes) -> Iterable[tuple[bytes, bytes]]:
    for piece in query[1:].split(b"&"):
        key, _, value = piece.partition(b"=")
        if key == b"id":
            # Only ids pass through Java's URLEncoder: a blank is `+`.
            value = value.replace(b"+", b" ")
        if b"%" in piece:
            key, value = unquote_to_bytes(key), unquote_to_bytes(value)
        yield key, value


def _flags(texts: Iterable[str]) -> Said:
    """Flags as in a bid request; an invalid flag stays an unreadable text."""
    return tuple(_FLAGS.get(text, text) for text in texts)


def _section_lists(texts: Iterable[str]) -> Said:
    return tuple(_section_ids(text) for text in texts if text != "Optional.empty")


def _section_ids(text: str) -> Any:
    """The list of ids; the text itself, no list, if unreadable."""
    match = _GPP_SID.fullmatch(text)
    if match is None:
        return text
    return [int(id_) for id_ in (match[1] or match[2]).split(",")]


def _tmax_ms(texts: Iterable[str]) -> int | None:
    timeouts = [int(match[1]) for text in texts if (match := _TIMEOUT.fullmatch(text))]
    return min(timeouts, default=None)


def _on_inventory_of(publisher: str) -> tuple[str, Any]:
    return "site", (("publisher", (("id", publisher),)),)
