"""
The OpenX answer: a bid request with only `id` and the new `user.data`.

OpenX merges into its own request only `id`, `user.data` and `user.ext` (docs/field.md, "Hosts and
peers").
"""

from rtb.openrtb.additions import Additions
from rtb.openrtb.splice import appended


def fragment(additions: Additions) -> bytes:
    """Return the fragment; its `id` is the request's, byte for byte."""
    data = appended(b"", [addition.data for addition in additions.each])
    return b'{"id":%b,"user":{"data":%b}}' % (additions.request.id_raw, data)
