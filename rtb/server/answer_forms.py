"""
The forms of an answer: one row a path, each from the same `Result`.

    path                          answers with                          without segments
    /openrtb2/enrich[/recipient]  the whole bid request                 200, unchanged
    /openrtb2/patch[/recipient]   a JSON Patch (RFC 6902)               204
    /openrtb25[/recipient]        OpenX's fragment: id and user.data    204
    /curation[/recipient]         Google's SegmentResponse              204
    /v2/targeting                 for Prebid Server's module            200, without segments

Without a recipient in the path, `RTB_DEFAULT_RECIPIENT` asks, or, if allowed, our own platform's
trusted caller; see `rtb.settings`. The last two paths take no bid requests, and exist only if
settings say what a question without GDPR means.
"""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple

from rtb.openrtb import targeting
from rtb.openrtb.curation import segment_response
from rtb.openrtb.fragment import fragment
from rtb.openrtb.inject import inject
from rtb.openrtb.patch import patch
from rtb.outcome import Outcome, OutcomeHeader
from rtb.pipeline import Result
from rtb.server.http.http11 import head_of
from rtb.server.metrics.layout import Refusal


class Asked(Enum):
    """The kinds of question; each has its own pipeline."""

    BID_REQUEST = auto()
    SEGMENT_REQUEST = auto()  # Google's: rtb.openrtb.curation
    TARGETING = auto()  # a query: rtb.openrtb.targeting


class Form(NamedTuple):
    """
    A form of answers.

    Attributes:
        render: Makes the body; empty: 204.
        heads: The head of an answer with a body, by outcome.
        nothing: The head of an answer without a body, by outcome.
        needs_json: A `Content-Type` other than JSON is refused (OpenX's contract; in OpenRTB a
            missing header means JSON).
        asked: The kind of question on its path.
        tmax_share: Enrichment's fraction of the host's time; `None`: the configured share of an
            auction's.
        method: Of its requests; a GET is read by its URL alone.
        other_method: The refusal of any other method.
    """

    render: Callable[[Result], bytes]
    heads: Mapping[Outcome, bytes]
    nothing: Mapping[Outcome, bytes]
    needs_json: bool = False
    asked: Asked = Asked.BID_REQUEST
    tmax_share: float | None = None
    method: bytes = b"POST"
    other_method: Refusal = Refusal.NOT_POST


def _whole(result: Result) -> bytes:
    additions = result.additions
    return result.body if additions is None else inject(result.body, additions)


def _patch(result: Result) -> bytes:
    return patch(result.additions, result.stripped)


def _fragment(result: Result) -> bytes:
    return b"" if result.additions is None else fragment(result.additions)


def _segment_response(result: Result) -> bytes:
    return segment_response(result.additions)


def _targeting(result: Result) -> bytes:
    return targeting.targeting_answer(result.additions)


_DATA_SHARE: Final = 0.5
"""Of a host's time for data alone, not for a whole auction."""

_PASSED: Final = "passed"


def heads_of(status: int, says: OutcomeHeader, media_type: str = "") -> dict[Outcome, bytes]:
    """Make the heads of answers, by outcome."""
    is_full = says is OutcomeHeader.FULL
    return {
        outcome: head_of(
            status,
            outcome if is_full or outcome is Outcome.ENRICHED else _PASSED,
            media_type=media_type,
        )
        for outcome in Outcome
    }


_JSON: Final = "application/json"


def _forms(says: OutcomeHeader) -> dict[bytes, Form]:
    nothing = heads_of(204, says)
    as_json = heads_of(200, says, _JSON)
    as_patch = heads_of(200, says, "application/json-patch+json")
    return {
        b"/openrtb2/enrich": Form(_whole, as_json, nothing),
        b"/openrtb2/patch": Form(_patch, as_patch, nothing),
        b"/openrtb25": Form(_fragment, as_json, nothing, needs_json=True),
        b"/curation": Form(
            _segment_response,
            as_json,
            nothing,
            asked=Asked.SEGMENT_REQUEST,
            tmax_share=_DATA_SHARE,
        ),
        targeting.PATH: Form(
            _targeting,
            as_json,
            nothing,
            asked=Asked.TARGETING,
            tmax_share=_DATA_SHARE,
            method=b"GET",
            other_method=Refusal.NOT_GET,
        ),
    }


FORMS: Final[Mapping[OutcomeHeader, Mapping[bytes, Form]]] = {
    says: _forms(says) for says in OutcomeHeader
}
"""By the outcome header's setting, and by path."""
