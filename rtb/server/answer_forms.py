"""
The forms an answer can have: one row a path, each over the same `Result`.

    path                          answers with                          nothing to say
    /openrtb2/enrich[/recipient]  the whole bid request                 200, as it came
    /openrtb2/patch[/recipient]   a JSON Patch (RFC 6902)               204
    /openrtb25[/recipient]        OpenX's fragment: id and user.data    204

Without a recipient it is the trusted caller in our own platform who asks.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from rtb.openrtb.fragment import fragment
from rtb.openrtb.inject import inject
from rtb.openrtb.patch import patch
from rtb.outcome import Outcome, OutcomeHeader
from rtb.pipeline import Result
from rtb.server.http.http11 import head_of


class Form(NamedTuple):
    """
    One way to answer.

    Attributes:
        render: Makes the body; an empty one is answered as 204.
        heads: The answer's head by outcome.
        nothing: The head of an answer that says nothing, likewise.
        needs_json: A `Content-Type` that is not JSON is refused, not ignored
            (OpenX's contract; in OpenRTB a missing one means JSON).
    """

    render: Callable[[Result], bytes]
    heads: Mapping[Outcome, bytes]
    nothing: Mapping[Outcome, bytes]
    needs_json: bool = False


def _whole(result: Result) -> bytes:
    additions = result.additions
    return result.body if additions is None else inject(result.body, additions)


def _patch(result: Result) -> bytes:
    return patch(result.additions, result.stripped)


def _fragment(result: Result) -> bytes:
    return b"" if result.additions is None else fragment(result.additions)


_PASSED: Final = "passed"


def _heads(status: int, says: OutcomeHeader, media_type: str = "") -> dict[Outcome, bytes]:
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
    nothing = _heads(204, says)
    as_json = _heads(200, says, _JSON)
    as_patch = _heads(200, says, "application/json-patch+json")
    return {
        b"/openrtb2/enrich": Form(_whole, as_json, nothing),
        b"/openrtb2/patch": Form(_patch, as_patch, nothing),
        b"/openrtb25": Form(_fragment, as_json, nothing, needs_json=True),
    }


FORMS: Final[Mapping[OutcomeHeader, Mapping[bytes, Form]]] = {
    says: _forms(says) for says in OutcomeHeader
}
"""By what the header tells, and by path."""
