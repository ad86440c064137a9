"""
What else than bid requests is asked, through the whole bid path but the store: queries of Prebid
Server's module, and Google's SegmentRequests; compiled and interpreted.

    query        is never malformed; the answer is what the module reads, and never empty
    segments     malformed where an object with an `id` beside would be, as a bid request
    enriched     the answer has segments of the catalog, and nothing else has
    opted out    the same question, of a person who has said no to all, shows nothing
    no           a `coppa=1` beside, or in `regs`, shows nothing
"""

import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from types import ModuleType
from typing import Any
from urllib.parse import quote_plus

from rtb.openrtb import curation, targeting
from rtb.outcome import MalformedRequest, Outcome, Reason
from rtb.pipeline import Question, Result
from segments.model.record import EVERYONE, OptOut, OptOutAction
from tests.fuzz.forms import json_splice
from tests.fuzz.target import Check, Target
from tests.fuzz.twins import end_alike, is_asked, twins_of
from tests.rtb import questions, requests
from tests.rtb.consent.strings import gpp_string, tc_string, us_section

_AUDIENCES = (1, 3, 11)
_SEGMENTS = {"101", "103", "201"}
_NO_TO_ALL = (OptOut(EVERYONE, OptOutAction.RESTRICT),)
_FOUND = requests.packed(*_AUDIENCES)
_SAID_NO = requests.packed(*_AUDIENCES, opt_outs=_NO_TO_ALL)


def _answered(module: ModuleType, pipeline: str, asked: bytes, found: bytes) -> Any:
    """Return the result; the reason's word where the question is malformed."""
    try:
        question = module.ask(pipeline, asked)
    except Exception as error:
        # Of the twin's module it is another class of the same name.
        if type(error).__name__ != MalformedRequest.__name__:
            raise
        return str(error)
    if type(question).__name__ != Question.__name__:
        return question
    return module.answer(pipeline, question, [found, *[None] * (len(question.ids) - 1)])


def _ending(result: Any) -> tuple[str, ...]:
    return (result,) if isinstance(result, str) else (result.outcome.value, result.reason.value)


def _checks(pipeline: str, render: str, is_right: Callable[[bytes, Any, bytes], None]) -> Any:
    @contextmanager
    def checking() -> Iterator[Check]:
        twin, twin_forms = twins_of("tests.rtb.questions", f"rtb.openrtb.{pipeline}")
        forms = {"curation": curation, "targeting": targeting}[pipeline]

        def check(data: bytes) -> Hashable:
            result = _answered(questions, pipeline, data, _FOUND)
            rendered = b"" if isinstance(result, str) else getattr(forms, render)(result.additions)
            if is_asked(data):
                other = _answered(twin, pipeline, data, _FOUND)
                assert end_alike(_ending(result), _ending(other)), "interpreted, it ends otherwise"
                if not isinstance(other, str):
                    assert rendered == getattr(twin_forms, render)(other.additions)
            is_right(data, result, rendered)
            return _ending(result)

        yield check

    return checking


def _is_right_targeting(query: bytes, result: Any, rendered: bytes) -> None:
    assert isinstance(result, Result), "a query is never malformed"
    answer = json.loads(rendered)
    assert answer["audience"] == answer["ortb2"]["user"]["eids"] == []
    data = answer["ortb2"]["user"]["data"]
    _is_shown(result, {segment["id"] for each in data for segment in each["segment"]})
    if data:
        for hidden in (
            _answered(questions, "targeting", query, _SAID_NO),
            _answered(questions, "targeting", query + b"&coppa=1", _FOUND),
            _answered(questions, "targeting", query + b"&gdpr=1&gdpr_consent=x", _FOUND),
        ):
            assert targeting.targeting_answer(hidden.additions) == targeting.targeting_answer(None)


def _is_right_response(body: bytes, result: Any, rendered: bytes) -> None:
    if isinstance(result, str):
        assert result in set(Reason)
        return
    segments = json.loads(rendered)["segment"] if rendered else []
    ids = [segment["segment_id"] for segment in segments]
    assert len(ids) == len(set(ids))
    _is_shown(result, set(ids))
    if ids:
        assert _answered(questions, "curation", body, _SAID_NO).outcome is Outcome.OPTED_OUT
        at = body.index(b"{") + 1
        told = body[:at] + b'"regs":{"coppa":1},' + body[at:]
        assert _answered(questions, "curation", told, _FOUND).outcome is Outcome.NO_CONSENT


def _is_shown(result: Result, ids: set[str]) -> None:
    assert bool(ids) == (result.outcome is Outcome.ENRICHED)
    assert ids <= _SEGMENTS


_GPP = gpp_string({7: us_section(7), 8: us_section(8)})
_PARTS = (
    f"id=e%3A{requests.DIGEST}", f"id=c%3A{requests.DIGEST}", f"id=p:{requests.DIGEST}",
    f"id=g%3A{'0b23a5f1-5c4d-4c9a-8a76-2b9f4b8c1d2e'}", "id=c1%3Ax", f"id={quote_plus('c:é +')}",
    f"gdpr_consent={tc_string()}", "gdpr=1", "gdpr=0", "gdpr=", f"gpp={_GPP}",
    "gpp_sid=Optional[7]",
    "gpp_sid=7,8", "gpp_sid=Optional%5B-1%5D", "timeout=20ms", "osdk=prebid-server", "o=pub-1",
    "t=acme", "us_privacy=1YNN", "gpc=0", "lmt=0", "coppa=0", "hid=e:x", "%FF=%FF", "id=%FF", "=",
    "&", "id", "id=%zz",
)  # fmt: skip


def _query_seeds() -> Sequence[bytes]:
    rng = Random(1)
    return [
        b"",
        *(f"?t=acme&o=p&{_PARTS[0]}&{part}".encode() for part in _PARTS),
        *("&".join(["", *rng.sample(_PARTS, 8)]).encode() for _ in range(8)),
    ]


def _with_a_part(data: bytes, rng: Random, _other: Callable[[], bytes]) -> bytes:
    part = rng.choice(_PARTS).encode()
    return data + b"&" + part if rng.random() < 0.5 else b"?" + part + b"&" + data[1:]


def _body_seeds() -> Sequence[bytes]:
    eids = [{"source": "liveintent.com", "uids": [{"id": requests.DIGEST}]}]
    made: tuple[dict[str, Any], ...] = (
        {"user": {"eids": eids}},
        {"segment_request_id": "r", "user": {"eids": eids, "consent": tc_string()}},
        {
            "site": {"page": "x"},
            "pub": {"id": "pub-1"},
            "device": {"geo": {"country": "US"}},
        },
        {
            "user": {"eids": eids},
            "pub": {"id": "pub-1"},
            "imp": [{"id": "1"}],
            "id": "x",
        },
        {
            "user": {"eids": eids},
            "regs": {"gpp": _GPP, "gpp_sid": [7]},
            "device": {"lmt": 0},
        },
        {},
    )
    return [b"\xef\xbb\xbf{}", b" { } ", *(json.dumps(body).encode() for body in made)]


_TOKENS = (
    b'"user"', b'"eids"', b'"uids"', b'"consent"', b'"pub"', b'"id"', b'"tmax"', b'"regs"', b"{}",
    b"}", b"{", b",", b"\xef\xbb\xbf", b'"segment_request_id"', b'"data"', b"null", b"[" * 300,
)  # fmt: skip

TARGETS = (
    Target(
        "query", _query_seeds, _checks("targeting", "targeting_answer", _is_right_targeting),
        (_with_a_part,), (b"&", b"=", b"%", b"+", b"?", b"Optional[", b"]", b"%26", b"~", b".IAAA"),
        ("rtb/openrtb/targeting.py", "rtb/pipeline.py", "rtb/identify.py", "rtb/consent/"),
        max_bytes=4_000,
    ),
    Target(
        "segments", _body_seeds, _checks("curation", "segment_response", _is_right_response),
        (json_splice,), _TOKENS, ("rtb/openrtb/", "rtb/pipeline.py", "rtb/identify.py"),
        max_bytes=4_000,
    ),
)  # fmt: skip
