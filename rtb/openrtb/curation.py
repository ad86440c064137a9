"""
Google's Real-time Curation: a SegmentRequest in, a SegmentResponse out.

A SegmentRequest is read as a bid request. Google's reference on its members
(developers.google.com/authorized-buyers/curation/realtime-curation/reference, "User", "EID", "UID",
"Publisher"; and .../parse-request):

    user.eids[].source, .uids[].id    of OpenRTB's form; "secure" or "audience" signals, obfuscated
                                      by their makers before Google sees them
    user.consent                      a TC string, if the publisher's CMP says that GDPR applies
                                      and gives a valid one
    pub.id                            the publisher, `pub-123`: to contextual partners only
    segment_request_id                its name; missing in some examples

We add an empty `id`, which bid requests require. Signals in their OpenRTB places count, although
Google sends no `regs`. Without a signal of consent, `RTB_CURATION_GDPR_WHEN_UNSAID` decides.

The answer (.../build-response), or 204 without segments; Google ignores answers after 50 ms:

    {"segment":[{"segment_id":"101"},{"segment_id":"102"}]}
"""

from typing import Final

from rtb.openrtb.additions import Additions
from rtb.openrtb.decode import Decoder
from rtb.openrtb.request import Request

TMAX_MS: Final = 50
"""Google's timeout, including the network (.../build-response)."""

_HEAD: Final = b'{"id":""'
_TAIL: Final = b',"tmax":%d}' % TMAX_MS
"""Placed after all members: the last of duplicates counts."""
_BLANKS: Final = b" \t\r\n"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_SEGMENT_HEAD: Final = b'{"id"'


def read_segment_request(body: bytes, decode: Decoder) -> Request:
    """
    Decode a SegmentRequest.

    Raises:
        MalformedRequest: As for a bid request, except for the `id`.
    """
    return decode(_bid_request_of(body))


def _bid_request_of(body: bytes) -> bytes:
    """Return a SegmentRequest as a bid request; a body other than an object stays malformed."""
    text = body.removeprefix(_BYTE_ORDER_MARK).strip(_BLANKS)
    if not (text.startswith(b"{") and text.endswith(b"}")):
        return body
    members = text[1:-1]
    comma = b"," if members.strip(_BLANKS) else b""
    return b"".join((_HEAD, comma, members, _TAIL))


def segment_response(additions: Additions | None) -> bytes:
    """Return the answer, each segment id once; empty without additions."""
    if additions is None:
        return b""
    segments = dict.fromkeys(
        b'{"segment_id"' + segment.removeprefix(_SEGMENT_HEAD)
        for addition in additions.each
        for segment in addition.segments
    )
    return b'{"segment":[%b]}' % b",".join(segments)
