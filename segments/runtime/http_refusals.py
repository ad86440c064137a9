"""The answers of our aiohttp ports to malformed, oversized and slow requests."""

import json
from http import HTTPStatus

from aiohttp import web

MAX_HEAD_BYTES = 16 << 10
"""Of a request head: first line and fields."""

MAX_LONG_HEADS = 20
"""At a time, in one process: 4 MiB of heads."""

_DETAILS = {
    400: "bytes that are no request of HTTP/1.1",
    408: "the head of a request that did not come to its end in time",
    431: f"a head of more than {MAX_HEAD_BYTES} bytes",
    503: f"{MAX_LONG_HEADS} requests with as long a head are under way; come again",
    500: "a fault of ours; it has been logged",
}


def refusal(status: int) -> web.Response:
    """Return the answer to a refused request."""
    answer = web.Response(body=_document(status), status=status, headers=_headers(status))
    answer.force_close()
    return answer


def raw_refusal(status: int) -> bytes:
    """Return it as bytes, if there is no request object to answer."""
    body = _document(status)
    fields = {**_headers(status), "Content-Length": str(len(body))}
    head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    head += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join((*head, "", "")).encode() + body


def _document(status: int) -> bytes:
    said = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _DETAILS.get(status, HTTPStatus(status).description),
    }
    return json.dumps(said).encode()


def _headers(status: int) -> dict[str, str]:
    return {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "Connection": "close",
        **({"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}),
    }
