"""Two requests, of a person who stays as he is and of one who changes, and answers to them."""

from loadtest.judge import NO_WAVE, Due
from loadtest.population import SEES_ALL
from loadtest.traffic import BidRequest, Expectation
from rtb.outcome import Outcome, Reason

BODY = b'{"id":"1"}'
REQUEST = BidRequest(0, SEES_ALL, BODY, (), Reason.NONE, is_stripped=False)
NO_MATCH, OPTED_OUT = Expectation(Outcome.NO_MATCH), Expectation(Outcome.OPTED_OUT)
STEADY = Due(REQUEST, BODY, (NO_MATCH,), NO_WAVE)
CHANGING = Due(REQUEST, BODY, (NO_MATCH, OPTED_OUT), 0)


def answer(outcome: str = "no_match", body: bytes = BODY, version: str = "2.6") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nX-Enrich-Outcome: {outcome}\r\nContent-Type: application/json\r\n"
    head += f"x-openrtb-version: {version}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
