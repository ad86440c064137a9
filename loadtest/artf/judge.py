"""Judges whole answers to calls, as `loadtest.judge` does those in JSON."""

from collections.abc import Mapping

from google.protobuf.message import DecodeError

from loadtest import answers
from loadtest.answers import LATE, Judgement, Verdict
from loadtest.artf.calls import FRAME_BYTES
from loadtest.artf.messages import artf
from loadtest.judge import Due, Judge
from loadtest.traffic import Expectation

_END = b"\r\n\r\n"
_PATH = "/user/data/segment"


class CallJudge(Judge):
    """Judges answers to calls; an answer is as of `loadtest.call_loop.text_of`."""

    def _in_full(self, due: Due, expected: Expectation, answer: bytes) -> Judgement:
        self.in_full += 1
        head, _, rest = answer.partition(_END)
        trailers, _, body = rest.partition(_END)
        fields = _fields(head)
        outcome = fields.get("x-enrich-outcome", "")
        is_late = outcome in LATE
        why = ""
        if outcome != expected.outcome and not is_late:
            why = f"outcome {outcome!r}, not {expected.outcome.value!r}"
        elif _fields(trailers) != {"grpc-status": "0"} or fields != {
            ":status": "200",
            "content-type": "application/grpc",
            "x-enrich-outcome": outcome,
        }:
            why = "another head or other trailers than those due"
        else:
            segments = {} if is_late else expected.segments
            why = _fault(body, f"r{due.request.index}", ids_of(segments))
        if why:
            return Judgement(Verdict.WRONG, f"call {due.request.index}: {why}")
        return Judgement(Verdict.LATE, outcome) if is_late else answers.RIGHT


def ids_of(segments: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the ids of expected segments, as mutations have them."""
    return frozenset(f"{partner}:{one}" for partner, ids in segments.items() for one in ids)


def _fault(body: bytes, request_id: str, due: frozenset[str]) -> str:
    size = int.from_bytes(body[1:FRAME_BYTES])
    if body[:1] != b"\0" or len(body) != FRAME_BYTES + size:
        return "not one plain message"
    try:
        response = artf.RTBResponse.FromString(body[FRAME_BYTES:])
    except DecodeError:
        return "the message is no RTBResponse"
    if response.id != request_id or response.metadata.api_version != "1.0":
        return "another id or version than the call's"
    mutations = [(m.intent, m.op, m.path) for m in response.mutations]
    if mutations != [(1, 1, _PATH)] * bool(due):
        return "other mutations than one of segments"
    ids = [id_ for mutation in response.mutations for id_ in mutation.ids.id]
    if len(ids) != len(due) or frozenset(ids) != due:
        return f"{len(ids)} segments, which are not the {len(due)} due"
    return ""


def _fields(lines: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines.decode("latin-1").split("\r\n") if line)
