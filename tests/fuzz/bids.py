"""
Bid requests: the body through the whole bid path but the store, compiled and interpreted.

    refused      the body is no bid request, by Python's own reader of JSON either
    passed       the answer is the body, byte for byte, but for what is stripped
    enriched     the answer is JSON, and another than the body in `user.data` alone
    opted out    the same request, of a person who has opted out of all, leaves as it came
"""

import json
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from rtb.outcome import MalformedRequest, Outcome, Reason
from rtb.pipeline import Question, Result
from rtb.server import answer_forms
from segments.model.record import EVERYONE, OptOut, OptOutAction
from tests.fuzz.forms import json_splice
from tests.fuzz.target import Check, Target
from tests.fuzz.twins import end_alike, is_asked, twins_of
from tests.rtb import requests
from tests.rtb.consent.strings import gpp_string, tc_string, us_section

_ROOT = Path(__file__).parents[2]
_FOLDERS = (Path(__file__).parents[1] / "rtb" / "samples",)
_STRIPPED = b"hashes"
_HARDLY_DEEP = 100
"""Python's own reader follows so many brackets, and ours too."""

_AUDIENCES = (1, 3, 11)
_NO_TARGETING = {"audience": [], "ortb2": {"user": {"data": [], "eids": []}}}
_NO_TO_ALL = (OptOut(EVERYONE, OptOutAction.RESTRICT),)


def _seeds() -> Sequence[bytes]:
    digest = requests.DIGEST
    eids = [{"source": "liveintent.com", "uids": [{"id": digest, "atype": 3}]}]
    theirs = {"id": "77", "segment": [{"id": "9"}]}
    ours = [{"id": "shop", "name": "Shop", "segment": [{"id": "101"}]}]
    regs: dict[str, Any] = {"gdpr": 1, "gpp": gpp_string({7: us_section(7)}), "gpp_sid": [7]}
    made = (
        requests.bid_request(),
        requests.bid_request(tmax=120, at=1, test=1),
        requests.bid_request({"ext": {"eids": eids, "hashes": {"email": digest}}}),
        requests.bid_request({"eids": eids, "data": ours}),
        requests.bid_request({"eids": eids, "data": [*ours, theirs]}),
        requests.bid_request({"eids": eids, "data": [{"id": "bank", "ext": {"segtax": 501}}]}),
        requests.bid_request({"eids": eids, "data": None}),
        requests.bid_request({"eids": eids, "consent": tc_string()}, regs=regs),
        requests.bid_request(regs={"ext": {"us_privacy": "1YNN", "gpc": "1"}, "coppa": 0}),
        requests.bid_request(device={"lmt": 0, "ext": {"atts": 3}, "ifa": "x" * 36}),
        requests.bid_request({"id": "u", "yob": 1980}, site={"publisher": {"id": "p1"}}),
        b'\xef\xbb\xbf{"id":"1","user":{}}',
        b'{"id":"1","app":{"name":"\\ud83d"},"user":{"eids":%b}}' % json.dumps(eids).encode(),
        b'{"id":"1","tmax":1E400,"user":{"eids":%b},"regs":{"coppa":1,"coppa":0}}'
        % json.dumps(eids).encode(),
        b'{"id":"1","user":{"ext":{"hashes":{"email":"x"}}},"user":{"eids":[]}}',
    )  # fmt: skip
    samples = [path.read_bytes() for path in sorted(_FOLDERS[0].glob("*.json"))]
    return [*made, *samples]


class _Answered:
    """What the bid path makes of a body, as plain values."""

    def __init__(self, module: ModuleType, forms: ModuleType, body: bytes, found: bytes) -> None:
        self.result: Any = None
        self.refused = ""
        self.rendered: list[bytes] = []
        self.question: Any = None
        try:
            asked = module.ask(body)
        except Exception as error:
            # Of the twin's module it is another class of the same name.
            if type(error).__name__ != MalformedRequest.__name__:
                raise
            self.refused = str(error)
            return
        if type(asked).__name__ == Question.__name__:
            self.question = asked
            others = [None] * (len(asked.ids) - 1)
            asked = module.PIPELINE.answer(asked, [found, *others], module.NOW_S)
        self.result = asked
        [each] = [forms for says, forms in forms.FORMS.items() if says == "full"]
        self.rendered = [form.render(asked) for form in each.values()]

    @property
    def ending(self) -> tuple[str, ...]:
        if self.result is None:
            return (self.refused,)
        result = self.result
        return (result.outcome.value, result.reason.value, *result.stripped)


@contextmanager
def _checking() -> Iterator[Check]:
    twin, twin_forms = twins_of("tests.rtb.requests", "rtb.server.answer_forms")
    found = requests.packed(*_AUDIENCES)
    said_no = requests.packed(*_AUDIENCES, opt_outs=_NO_TO_ALL)

    def check(body: bytes) -> Hashable:
        ours = _Answered(requests, answer_forms, body, found)
        if is_asked(body):
            other = _Answered(twin, twin_forms, body, found)
            assert end_alike(ours.ending, other.ending), (
                f"{ours.ending}, and interpreted {other.ending}"
            )
            assert ours.rendered == other.rendered, "interpreted, the answer is another"
        if ours.result is None:
            _is_rightly_refused(body, ours.refused)
            return ours.ending
        _is_rightly_answered(body, ours.result, ours.rendered)
        if ours.question is not None and ours.result.outcome is Outcome.ENRICHED:
            others = [None] * (len(ours.question.ids) - 1)
            told = requests.PIPELINE.answer(ours.question, [said_no, *others], requests.NOW_S)
            assert told.outcome is Outcome.OPTED_OUT, "a person who said no"
            assert told.body == ours.question.body
        return ours.ending

    yield check


def _is_rightly_answered(body: bytes, result: Result, rendered: list[bytes]) -> None:
    whole, patch, fragment, response, targeting = rendered
    before = _pairs(body)
    assert _is_object_with_id(before), "answered, and no bid request"
    if not result.stripped:
        assert result.body == body, "what leaves is not what came"
    if result.outcome is not Outcome.ENRICHED:
        assert whole == result.body, "not enriched, and changed"
        assert not fragment, "nothing to say, and said"
        assert not response, "nothing to say, and said"
        assert json.loads(targeting) == _NO_TARGETING, "nothing to say, and said"
        assert bool(patch) == bool(result.stripped), "nothing to change, and changed"
        return
    after = _pairs(whole)
    assert not isinstance(after, str), "enriched, and no JSON"
    _pairs(fragment), json.loads(patch)
    added = json.loads(targeting)["ortb2"]["user"]["data"]
    shown = {segment["id"] for data in added for segment in data["segment"]}
    assert {each["segment_id"] for each in json.loads(response)["segment"]} == shown
    leaving = _pairs(result.body)
    if not isinstance(before, str) and not isinstance(leaving, str):
        _differ_in_user_data_alone(leaving, after)


def _differ_in_user_data_alone(before: Any, after: Any) -> None:
    """Compare as a reader does who takes the last of several members of one name."""
    was, now = dict(before), dict(after)
    user, user_now = was.pop("user", None), now.pop("user")
    assert now == was, "another value outside of the user"
    kept = dict(user) if isinstance(user, _Pairs) else {}
    kept.pop("data", None)
    changed = dict(user_now)
    changed.pop("data")
    assert changed == kept, "another user"


def _is_rightly_refused(body: bytes, reason: str) -> None:
    reference = _pairs(body)
    match reason:
        case Reason.NOT_UTF8:
            assert reference == "not UTF-8"
        case Reason.NOT_JSON:
            assert reference in ("not UTF-8", "not JSON"), "JSON, and refused as none"
        case Reason.NOT_A_BID_REQUEST:
            assert reference != "not JSON", "not JSON, and said to be no bid request"
            assert not _is_object_with_id(reference), "an object with an id, and refused"
        case Reason.TOO_DEEP:
            assert body.count(b"[") + body.count(b"{") > _HARDLY_DEEP, "hardly nested"
        case Reason.UNSTRIPPABLE:
            # The name may be spelt in escapes.
            assert _STRIPPED in body or b"\\u" in body, "nothing to strip"
        case _:
            raise AssertionError(f"refused for {reason}")


def _is_object_with_id(value: Any) -> bool:
    if value == "too deep":
        return True  # nobody can say
    return type(value) is _Pairs and any(name == "id" for name, _ in value)


class _Pairs(list[tuple[str, Any]]):
    pass


def _no_number(text: str) -> Any:
    raise ValueError(text)


def _pairs(body: bytes) -> Any:
    """Read JSON by Python's own reader, numbers as they are written; or say what it is not."""
    try:
        text = body.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        return "not UTF-8"
    try:
        return json.loads(
            text,
            object_pairs_hook=_Pairs,
            parse_int=lambda digits: ("number", digits),
            parse_float=lambda digits: ("number", digits),
            parse_constant=_no_number,
        )
    except ValueError:
        return "not JSON"
    except RecursionError:
        return "too deep"


_TOKENS = (
    b'"user"', b'"data"', b'"segment"', b'"eids"', b'"uids"', b'"ext"', b'"regs"', b'"device"',
    b'"hashes"', b'"consent"', b'"gpp"', b'"gpp_sid"', b'"coppa"', b'"lmt"', b'"id"', b'"shop"',
    b'"segtax"', b'"\\u0075ser"', b"null", b"true", b"1e400", b"[" * 300, b'{"a":' * 200, b"{}",
    b",", b":", b"[]", b'""', b'"source":"liveintent.com"', b'"tmax":',
    requests.DIGEST.encode(),
)  # fmt: skip

TARGETS = (
    Target(
        "bid", _seeds, _checking, (json_splice,), _TOKENS,
        ("rtb/openrtb/", "rtb/pipeline.py", "rtb/identify.py", "rtb/consent/"),
        max_bytes=6_000, slowest_ms=30.0,
    ),
)  # fmt: skip
